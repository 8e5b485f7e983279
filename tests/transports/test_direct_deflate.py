"""Compression on the direct way: one frame for all who understand it, beside those who do not, in the same order."""

from __future__ import annotations

import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Event, Message, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.served import Served, served
from tests.transports.stage import (
    DEFLATE,
    DEFLATE_TLS,
    PATIENCE,
    TINY,
    Contexts,
    Peer,
    Way,
    stage,
)
from tests.transports.strict import BINARY, TEXT, Frame
from tests.transports.test_broadcast import Sink, join, publish, start
from triocast import Settings
from triocast.core.message import Draft
from triocast.core.wire import RAW, compressed

KIB = 1024
WORDS = "the same words again, " * 50
PORTABLE_DEFLATE = Way("portable", tls=False, deflate=True)


def text(number: int, size: int = 0) -> str:
    return f"{number} {WORDS}".ljust(size, "~")


async def test_all_who_understand_it_are_written_one_frame_and_the_others_another(nursery: trio.Nursery) -> None:
    hub = await start(nursery)
    readers = [Sink(compressed(RAW)) for _ in range(100)]
    others = [Sink() for _ in range(100)]
    await join(hub, *readers, *others)
    await publish(hub, WORDS)
    for sinks in (readers, others):
        assert all(len(sink.written) == 1 and sink.written[0] is sinks[0].written[0] for sink in sinks)
        assert {sink.subscription.cursor for sink in sinks} == {1}
    assert len(readers[0].written[0]) < len(others[0].written[0]) // 10


@pytest.mark.parametrize("way", [DEFLATE, DEFLATE_TLS], ids=str)
async def test_a_mixed_group_is_given_the_same_messages_in_one_order(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts) as staged:
        peers = [await staged.connect("a", deflate=index % 2 == 0) for index in range(6)]
        sent: list[str | bytes] = []
        for index in range(30):
            sent += [text(index), f"{index}", text(index).encode(), b""]
        seen: dict[Peer, list[Frame]] = {}

        async def take(peer: Peer) -> None:
            seen[peer] = [await peer.data() for _ in range(len(sent))]

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(take, peer)
            nursery.start_soon(staged.publish, "a", *sent)
        expected = [
            Frame(TEXT, each.encode()) if isinstance(each, str) else Frame(BINARY, bytes(each)) for each in sent
        ]
        for index, peer in enumerate(peers):
            assert seen[peer] == expected
            assert [frame.deflated for frame in seen[peer]] == [
                index % 2 == 0 and len(frame.payload) > 100 for frame in expected
            ]


async def test_who_catches_up_is_given_compressed_frames_as_well(contexts: Contexts) -> None:
    async with stage(DEFLATE, contexts, Settings(write_timeout=600), send_buffer=TINY) as staged:
        slow = await staged.connect("a", buffer=TINY)
        numbers = range(400)
        noise = [random.Random(number).randbytes(4_000).hex() for number in numbers]
        behind = 0
        for message in noise:
            behind += (await staged.push.group("a").send(message)).behind
        assert behind
        frames = [await slow.data() for _ in numbers]
        assert [frame.payload.decode() for frame in frames] == noise
        assert all(frame.deflated for frame in frames)


async def test_what_is_for_one_client_goes_as_it_is_and_what_it_compresses_is_understood(contexts: Contexts) -> None:
    async with stage(DEFLATE, contexts) as staged:
        peer = await staged.connect("a")
        compressor = zlib.compressobj(wbits=-15)
        data = (compressor.compress(WORDS.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert len(data) < 126
        await peer.send_bytes(bytes([0xC1, 0x80 | len(data)]) + bytes(4) + data)
        echo = await peer.data()
        assert (echo, echo.deflated) == (Frame(TEXT, WORDS.encode()), False)


async def test_the_portable_way_sends_uncompressed_and_understands_what_is_compressed(contexts: Contexts) -> None:
    async with stage(PORTABLE_DEFLATE, contexts) as staged:
        peer = await staged.connect("a")
        await staged.publish("a", WORDS)
        got = await peer.data()
        assert (got, got.deflated) == (Frame(TEXT, WORDS.encode()), False)
        await peer.send_bytes(b"\xc1\x87" + bytes(4) + b"\xf2\x48\xcd\xc9\xc9\x07\x00")  # RFC 7692, 7.2.3.1
        assert await peer.message() == b"Hello"


class Foreign:
    """A WebSocket client of another's making, which checks the answer to its offer, and inflates."""

    def __init__(self, stream: trio.abc.Stream, extension: PerMessageDeflate) -> None:
        self._stream = stream
        self.extension = extension
        self._client = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self.received = 0

    async def open(self, target: str) -> None:
        await self._stream.send_all(
            self._client.send(Request(host="localhost", target=target, extensions=[self.extension]))
        )
        assert isinstance(await self._event(), AcceptConnection)

    async def message(self) -> str | bytes:
        data: list[str | bytes] = []
        while True:
            event = await self._event()
            assert isinstance(event, Message), event
            data.append(event.data)
            if event.message_finished:
                return data[0][:0].join(data)  # type: ignore[arg-type]

    async def send(self, data: str | bytes) -> None:
        event: Event = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        await self._stream.send_all(self._client.send(event))

    async def _event(self) -> Event:
        while not self._events:
            data = await self._stream.receive_some()
            self.received += len(data)
            self._client.receive_data(bytes(data) or None)
            self._events += self._client.events()
        return self._events.pop(0)


@asynccontextmanager
async def foreign(server: Served, target: str, bits: int = 15) -> AsyncIterator[Foreign]:
    stream = await server.connect()
    async with stream:
        client = Foreign(stream, PerMessageDeflate(server_max_window_bits=bits))
        await client.open(target)
        yield client


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_client_of_anothers_making_agrees_reads_and_is_read(tls: bool, contexts: Contexts) -> None:
    settings = Settings(compression=True, client_publish=True)
    server_side, client_side = contexts if tls else (None, None)
    with trio.fail_after(PATIENCE):
        async with (
            served(settings, tls=server_side, trust=client_side) as server,
            foreign(server, "/ws/a") as raw,
            foreign(server, "/ws/a?format=json") as in_json,
        ):
            assert raw.extension.enabled()
            assert raw.extension.server_no_context_takeover
            assert raw.extension.client_no_context_takeover
            joined = await in_json.message()
            assert "joined" in msgspec.json.decode(joined)
            before = raw.received
            for number in range(10):
                await server.hub.publish("a", Draft.of({"number": number, "words": WORDS}))
                assert msgspec.json.decode(await raw.message()) == {"number": number, "words": WORDS}
                told = msgspec.json.decode(await in_json.message())
                assert (told["offset"], told["data"]["number"]) == (number + 1, number)
            assert raw.received - before < 10 * len(WORDS) // 5
            await raw.send(WORDS)  # compressed by wsproto
            assert await raw.message() == WORDS
            assert msgspec.json.decode(await in_json.message())["data"] == WORDS
            await raw.send(b"\x00" * 100 * KIB)
            assert await raw.message() == b"\x00" * 100 * KIB


async def test_who_can_read_only_a_small_window_is_served_uncompressed() -> None:
    with trio.fail_after(PATIENCE):
        async with served(Settings(compression=True)) as server, foreign(server, "/ws/a", bits=10) as client:
            assert not client.extension.enabled()
            await server.hub.publish("a", Draft.of(WORDS))
            assert await client.message() == WORDS


async def test_gaps_stand_in_their_place_among_compressed_messages() -> None:
    settings = replace(Settings(), compression=True, max_lag=4)
    with trio.fail_after(PATIENCE):
        async with served(settings, send_buffer=4096) as server, foreign(server, "/ws/a?format=json") as client:
            assert "joined" in msgspec.json.decode(await client.message())
            noise = " ".join(f"{zlib.crc32(b'%d' % number):x}" for number in range(10_000))
            lagging = 0
            while lagging < 20:
                lagging += (await server.hub.publish("a", Draft.of(noise))).behind
            offset, gaps = 0, 0
            top = (await server.hub.info("a")).offset
            while offset < top:
                told = msgspec.json.decode(await client.message())
                first, last = (told["gap"]["from"], told["gap"]["to"]) if "gap" in told else 2 * (told["offset"],)
                assert first == offset + 1
                offset = last
                gaps += "gap" in told
            assert gaps
