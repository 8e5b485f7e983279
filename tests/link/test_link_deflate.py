"""permessage-deflate on the link: what is agreed to, and that what a client compresses is read, within bounds."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.link.harness import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Application,
    Client,
    Served,
    close_frame,
    frame,
    serve,
    settings,
)
from tests.link.test_link_messages import pour
from tests.memory import flat_memory
from triocast.link import LINK_KEY
from triocast.link.deflate import INFLATE_PIECE, Inflate, agree
from triocast.link.frames import FrameMeter

KIB = 1024
MIB = 1024 * KIB
CONTINUATION, RSV1, RSV2 = 0, 0x40, 0x20
ON = settings(compression=True, max_message=10 * KIB)
AGREED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
BITS_15 = AGREED + b"; server_max_window_bits=15"
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def deflated(data: bytes, level: int = 6) -> bytes:
    """Return what a client makes of a message."""
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def zeros(mebibytes: int) -> bytes:
    """Return a message of that many MiB, in a thousandth of them."""
    compressor = zlib.compressobj(9, wbits=-15)
    one = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return one * mebibytes


def compressed_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return the first frame of a message that is compressed."""
    first, *rest = frame(opcode, payload, fin=fin)
    return bytes([first | RSV1, *rest])


async def agreed(served: Served) -> Client:
    client = await served.connect()
    assert b"\r\nsec-websocket-extensions: " + AGREED + b"\r\n" in (await client.upgrade(OFFER)).lower()
    return client


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        ([b""], None),
        ([b"permessage-deflate"], AGREED),
        ([b"permessage-deflate; client_max_window_bits"], AGREED),
        ([b"permessage-deflate;client_max_window_bits=8"], AGREED),
        ([b"permessage-deflate; client_max_window_bits=15"], AGREED),
        ([b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"], AGREED),
        ([b'permessage-deflate; server_max_window_bits="15"'], BITS_15),
        ([b"permessage-deflate; client_max_window_bits = 15 ;\tserver_max_window_bits=15"], BITS_15),
        # A window that the frames made for all do not keep to.
        ([b"permessage-deflate; server_max_window_bits=14"], None),
        ([b"permessage-deflate; server_max_window_bits=8"], None),
        ([b"permessage-deflate; server_max_window_bits=10, permessage-deflate"], AGREED),
        ([b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate"], AGREED),
        ([b"permessage-deflate; server_max_window_bits=15, permessage-deflate"], BITS_15),
        # What nobody may offer.
        ([b"permessage-deflate; server_max_window_bits"], None),
        ([b"permessage-deflate; server_max_window_bits=16"], None),
        ([b"permessage-deflate; server_max_window_bits=015"], None),
        ([b"permessage-deflate; client_max_window_bits=7"], None),
        ([b"permessage-deflate; client_max_window_bits=08"], None),
        ([b"permessage-deflate; client_max_window_bits=abc"], None),
        ([b"permessage-deflate; client_max_window_bits=9; client_max_window_bits=10"], None),
        ([b"permessage-deflate; server_no_context_takeover=1"], None),
        ([b"permessage-deflate; client_no_context_takeover=true"], None),
        ([b"permessage-deflate; surprise"], None),
        ([b"permessage-deflate; surprise, permessage-deflate"], AGREED),
        # Other extensions.
        ([b"x-webkit-deflate-frame"], None),
        ([b"permessage-deflated"], None),
        ([b'mux; max-channels=4, x; y="z", permessage-deflate'], AGREED),
        ([b"mux", b"permessage-deflate"], AGREED),
        ([b",, permessage-deflate ,"], AGREED),
        # What can't be read.
        ([b"permessage-deflate;"], None),
        ([b"permessage-deflate; ;"], None),
        ([b";"], None),
        ([b"permessage-deflate=1"], None),
        ([b"permessage-deflate; client_max_window_bits="], None),
        ([b'permessage-deflate; client_max_window_bits="15'], None),
        ([b"permessage deflate"], None),
        ([b'mux; y=", permessage-deflate, "'], None),
        ([b"permessage-deflate, m\xc3\xbcx"], None),
        ([b"permessage-deflate, \x00"], None),
    ],
)
def test_what_is_offered_and_what_is_agreed_to(offers: list[bytes], answer: bytes | None) -> None:
    assert agree([(b"host", b"x"), *((b"Sec-WebSocket-Extensions", value) for value in offers)]) == answer


@given(st.binary(max_size=60))
def test_an_offer_of_anything_is_no_error(offer: bytes) -> None:
    for value in (offer, b"permessage-deflate; " + offer):
        assert agree([(b"sec-websocket-extensions", value)]) in (None, AGREED, BITS_15)


async def test_compression_is_off_unless_it_is_switched_on() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        assert b"sec-websocket-extensions" not in (await client.upgrade(OFFER)).lower()
        await client.send(compressed_frame(TEXT, deflated(b"hello")))
        assert (await client.close())[0] == 1002


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n",
        b"Sec-WebSocket-Extensions: ;;=,\r\n",
    ],
)
async def test_who_offers_nothing_that_we_can_take_is_served_without(offer: bytes) -> None:
    app = Application()
    async with serve(app, ON) as served:
        client = await served.connect()
        assert b"sec-websocket-extensions" not in (await client.upgrade(offer)).lower()
        assert not app.scopes[0]["state"][LINK_KEY].deflates
        await client.send(frame(TEXT, b"hello"))
        assert await client.frame() == (TEXT, b"hello")
        await client.send(compressed_frame(TEXT, deflated(b"hello")))
        assert (await client.close())[0] == 1002


async def test_the_handler_knows_before_it_accepts_and_a_refused_handshake_has_no_extension() -> None:
    class Refusing(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            assert scope["state"][LINK_KEY].deflates
            await receive()
            await send({"type": "websocket.close"})

    app = Refusing()
    async with serve(app, ON) as served:
        client = await served.connect()
        head = await client.upgrade(OFFER)
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"sec-websocket-extensions" not in head.lower()


async def test_what_the_client_compresses_is_understood_and_the_handlers_own_frames_go_as_they_are() -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        for opcode, data in ((TEXT, "grüße ".encode() * 500), (BINARY, bytes(range(256)) * 30), (TEXT, b"")):
            await client.send(compressed_frame(opcode, deflated(data)))
            assert await client.frame() == (opcode, data)
            await client.send(frame(opcode, data))
            assert await client.frame() == (opcode, data)


# From RFC 7692, 7.2.3: the same word in the ways that there are to write it.
HELLOS = {
    "one block": b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    "stored": b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    "a block that is marked as the last": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    "two blocks": b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    "two that are marked": b"\x01\x02\x00\xfd\xffHe\x01\x03\x00\xfc\xffllo\x00",
}


@pytest.mark.parametrize("data", HELLOS.values(), ids=HELLOS.keys())
@pytest.mark.parametrize("cut", [None, 1, 3])
async def test_every_way_to_write_a_message_is_read(data: bytes, cut: int | None) -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        if cut is None:
            await client.send(compressed_frame(TEXT, data))
        else:
            await client.send(compressed_frame(TEXT, data[:cut], fin=False) + frame(PING, b"between"))
            await client.send(frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, data[cut:]))
            assert await client.frame() == (PONG, b"between")
        assert await client.frame() == (TEXT, b"Hello")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (compressed_frame(TEXT, b"\xff\xff"), 1007),
        (compressed_frame(TEXT, deflated(b"\xff")), 1007),
        (compressed_frame(TEXT, b"\xf2\x00\x11\x00\x00"), 1007),  # what needs an earlier message to be read
        (compressed_frame(PING, b"x"), 1002),
        (compressed_frame(CLOSE, b"\x03\xe8"), 1002),
        (frame(TEXT, b"x", fin=False) + compressed_frame(CONTINUATION, deflated(b"x")), 1002),
        (compressed_frame(TEXT, b"\xf2", fin=False) + compressed_frame(TEXT, deflated(b"x")), 1002),
        (bytes([0x81 | RSV2, 0x80]) + bytes(4), 1002),
    ],
)
async def test_what_is_not_as_agreed_ends_the_connection_with_the_code_for_it(data: bytes, code: int) -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(data)
        assert (await client.close())[0] == code
        await client.rest()
        await served.wait_empty()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_exactly_the_limit_is_delivered_though_compression_makes_it_larger(opcode: int) -> None:
    noise = random.Random(1).randbytes(10 * KIB)
    data = noise.hex().encode()[: 10 * KIB] if opcode == TEXT else noise
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        sent = deflated(data, level=0)
        assert len(sent) > 10 * KIB
        await client.send(compressed_frame(opcode, sent))
        assert await client.frame() == (opcode, data)


async def test_what_could_not_be_within_the_limit_is_refused_before_a_byte_of_it() -> None:
    first, *rest = frame(BINARY, announce=10 * KIB * 5 // 4 + 65)
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(bytes([first | RSV1, *rest]))
        assert (await client.close())[0] == 1009


@pytest.mark.parametrize("level", [0, 9])
async def test_one_byte_more_is_refused_with_a_reason_that_names_the_limit(level: int) -> None:
    app = Application()
    async with serve(app, ON) as served:
        client = await agreed(served)
        await client.send(compressed_frame(TEXT, deflated(b"x" * (10 * KIB + 1), level)) + close_frame(1000))
        assert await client.close() == (1009, "a message may have at most 10240 bytes (max_message)")
        assert (await app.wait_event("websocket.disconnect"))["code"] == 1009
        assert await client.eof() == b""


async def test_fragments_are_counted_together_once_they_are_inflated() -> None:
    data = deflated(b"x" * (10 * KIB + 1))
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(compressed_frame(TEXT, data[:4], fin=False))
        for byte in data[4:-1]:
            await client.send(frame(CONTINUATION, bytes([byte]), fin=False))
        await client.send(frame(CONTINUATION, data[-1:]))
        assert (await client.close())[0] == 1009


@pytest.mark.parametrize(("limit", "mebibytes"), [(10 * KIB, 8), (MIB, 1024)])
async def test_a_thousand_times_the_limit_is_refused_without_being_inflated(limit: int, mebibytes: int) -> None:
    app = Application()
    bomb = compressed_frame(BINARY, zeros(mebibytes))
    async with serve(app, settings(compression=True, max_message=limit)) as served:
        client, other = await agreed(served), await agreed(served)
        with flat_memory(3 * MIB + 5 * limit):  # the message's own bytes, as zlib gives them and as wsproto copies them
            await pour(client, bomb, 1)
            assert (await client.close())[0] == 1009
        await other.send(compressed_frame(TEXT, deflated(b"still here")))
        assert await other.frame() == (TEXT, b"still here")
        assert [event for event in app.events if event.get("bytes")] == []


def _connections(limit: int) -> tuple[Connection, Connection]:
    """Return a client of wsproto's, and our end of the same connection."""
    theirs = PerMessageDeflate()
    theirs.finalize(AGREED.decode())
    return Connection(ConnectionType.CLIENT, [theirs]), Connection(ConnectionType.SERVER, [Inflate(limit)])


def _read(connection: Connection) -> list[str | bytes]:
    got: list[str | bytes] = []
    whole = True
    for event in connection.events():
        if isinstance(event, Message):
            got = [*got, event.data] if whole else [*got[:-1], got[-1] + event.data]
            whole = event.message_finished
        else:
            assert isinstance(event, Ping)
    return got


@given(
    st.lists(st.tuples(st.sampled_from([str, bytes]), st.lists(st.integers(0, 900), min_size=1, max_size=4))),
    st.integers(1, 2_000),
    st.randoms(use_true_random=False),
)
def test_whatever_another_implementation_compresses_is_read_back(
    wanted: list[tuple[type, list[int]]], cut: int, rng: random.Random
) -> None:
    client, server = _connections(4_000)
    sent: list[str | bytes] = []
    data = b""
    for kind, sizes in wanted:
        parts: list[Any] = ["".join(rng.choices("aé♥", k=size)) for size in sizes]
        parts = [part.encode() for part in parts] if kind is bytes else parts
        sent.append(kind().join(parts))
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            event: Event = (
                BytesMessage(part, message_finished=last) if kind is bytes else TextMessage(part, message_finished=last)
            )
            data += client.send(event) + client.send(Ping(b"\xc1\x00"))
    sizes = [len(each.encode() if isinstance(each, str) else each) for each in sent]
    if max(sizes, default=0) <= 4_000:
        for start in range(0, len(data), cut):
            server.receive_data(data[start : start + cut])
        assert _read(server) == sent
    else:
        server.receive_data(data)
        assert [event.code for event in server.events() if isinstance(event, CloseConnection)] == [1009]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_more_than_the_limit_of_themselves_nor_an_error(data: bytes, cut: int) -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(1000)])
    frames = compressed_frame(BINARY, data)
    size = 0
    for start in range(0, len(frames), cut):
        server.receive_data(frames[start : start + cut])
        events = list(server.events())
        size += sum(len(event.data) for event in events if isinstance(event, Message))
        assert size <= 1000
        if any(isinstance(event, CloseConnection) for event in events):
            return


def test_nothing_is_kept_for_a_client_between_its_messages() -> None:
    ends = [_connections(MIB)[1] for _ in range(50)]
    data = compressed_frame(BINARY, deflated(b"x" * 100_000))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for server in ends:
            server.receive_data(data)
            assert _read(server) == [b"x" * 100_000]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < len(ends) * 4 * KIB


def test_a_meter_says_whether_there_is_anything_to_inflate() -> None:
    meter = FrameMeter(1000)
    plain, begun = frame(TEXT, b"plain"), compressed_frame(TEXT, b"x" * 10, fin=False)
    said = []
    for data in (plain, begun, frame(PING), frame(CONTINUATION, b"y") + plain, plain, plain + begun[:8], begun[8:]):
        meter.feed(data)
        said.append(meter.compressed)
    assert said == [False, True, True, True, False, True, True]


def test_what_is_too_large_is_not_inflated_to_find_that_out() -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(10 * KIB)])
    bomb = compressed_frame(BINARY, zeros(8))
    with flat_memory(200 * KIB):
        server.receive_data(bomb)
        assert [event.code for event in server.events() if isinstance(event, CloseConnection)] == [1009]


async def test_a_large_message_is_inflated_in_pieces() -> None:
    class Taking(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            self.size = len((await receive())["bytes"])

    app = Taking()
    async with serve(app, settings(compression=True, max_message=16 * MIB)) as served:
        client = await agreed(served)
        message = compressed_frame(BINARY, zeros(6))
        assert len(message) < 7 * KIB  # one read
        with flat_memory(17 * MIB):  # inflated in one go, it took 20 for a moment
            await client.send(message)
            await app.wait_ended()
        assert app.size == 6 * MIB


def test_a_piece_becomes_little_more_than_a_thousand_times_as_much() -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(1 << 40)])
    bomb = compressed_frame(BINARY, zeros(64))
    for start in range(0, len(bomb), INFLATE_PIECE):
        server.receive_data(bomb[start : start + INFLATE_PIECE])
        assert sum(len(event.data) for event in server.events() if isinstance(event, Message)) <= 1100 * INFLATE_PIECE
