"""Frames checked byte for byte while sockets take and give little, pings come between, and closes from both sides."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import pytest
import trio

from tests.link.harness import close_frame, frame
from tests.transports.stage import DEFLATE, DIRECT, TINY, Contexts, Peer, Stage, Way, stage
from tests.transports.strict import BINARY, CLOSE, PING, PONG, TEXT, Frame, Strict
from triocast import ConnectionEnded, Settings

KIB = 1024
SETTINGS = Settings(write_timeout=600, close_timeout=600, max_lag=64)
VISITORS, VISITS = 8, 12  # at once, and one after the other
CODES = (1000, 1011, 3000, 4001)


def content(number: int) -> bytes:
    """Return what message `number` is: its number, and bytes that no other has in that place."""
    size = random.Random(number).choice([0, 3, 90, 126, 1_000, 5_000, 20_000, 66_000])
    noise = random.Random(-number - 1).randbytes(size)
    # What compression makes smaller, and what it does not.
    return b"%d:" % number + (noise.hex().encode()[:size] if number % 2 else noise)


def number_of(message: bytes) -> int:
    """Return which message this is, having looked at each of its bytes."""
    number = int(message.split(b":", 1)[0])
    assert message == content(number)
    return number


@dataclass
class Visit:
    """One client's short stay, and what it did in it."""

    peer: Peer
    rng: random.Random
    pings: list[bytes] = field(default_factory=list)
    closing: trio.Event = field(default_factory=trio.Event)
    closed_with: set[int] = field(default_factory=set)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._ping)
            await self._turns(120)
            ends = self.rng.sample([self._close_by_client, self._close_by_server], self.rng.choice([1, 1, 2]))
            for end in ends:
                nursery.start_soon(end)

    async def _read(self) -> None:
        while True:
            self.peer.bite = self.rng.choice([1, 2, 3, 7, 61, 1_021, 4_093, 65_536])
            for _ in range(self.rng.randrange(1, 9)):
                if not await self.peer.read():
                    self.closing.set()
                    return
            await self._turns(6)

    async def _ping(self) -> None:
        try:
            while not self.closing.is_set():
                self.pings.append(self.rng.randbytes(self.rng.choice([0, 1, 20, 125])))
                await self.peer.ping(self.pings[-1])
                await self._turns(12)
        except trio.BrokenResourceError:
            assert self.closing.is_set() or self.closed_with

    async def _close_by_client(self) -> None:
        await self._turns(20)
        code = self.rng.choice(CODES)
        self.closed_with.add(code)
        self.closing.set()
        with suppress(trio.BrokenResourceError):
            # With a ping behind it at times, which nobody may answer.
            await self.peer.send_bytes(close_frame(code, "bye") + self.rng.choice([b"", frame(PING, b"late")]))

    async def _close_by_server(self) -> None:
        await self._turns(20)
        code = self.rng.choice(CODES)
        self.closed_with.add(code)
        await self.peer.connection.close(code, "enough")

    async def _turns(self, limit: int) -> None:
        for _ in range(self.rng.randrange(limit)):
            await trio.lowlevel.checkpoint()


def check(visit: Visit, frames: list[Frame]) -> int:
    """Look at all that a visitor was given; return how many messages that were."""
    assert not visit.peer.strict.halfway, "the end came in the middle of a frame"
    *before, last = frames
    assert last.opcode == CLOSE
    assert last.code in visit.closed_with
    pongs = [each.payload for each in before if each.opcode == PONG]
    assert pongs == visit.pings[: len(pongs)]
    numbers = [number_of(each.payload) for each in before if each.opcode == BINARY]
    assert numbers == sorted(set(numbers))
    own = [each.payload for each in before if each.opcode == TEXT]
    assert own == [b"own %d" % index for index in range(len(own))]
    return len(numbers)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", [DIRECT, DEFLATE], ids=str)
async def test_whoever_closes_whenever_every_frame_is_whole_and_the_close_is_the_last(
    way: Way, seed: int, contexts: Contexts
) -> None:
    given = 0

    async def come_and_go(served: Stage, rng: random.Random) -> None:
        nonlocal given
        for _ in range(VISITS):
            peer = await served.connect("a", buffer=rng.choice([TINY, 2 * TINY]))
            visit = Visit(peer, random.Random(rng.random()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_own, peer)
                await visit.run()
                nursery.cancel_scope.cancel()
            given += check(visit, await peer.to_the_end())
            peer.leave()

    async with stage(way, contexts, SETTINGS, send_buffer=TINY) as served, trio.open_nursery() as publishers:
        publishers.start_soon(publish_on, served)
        async with trio.open_nursery() as visitors:
            for index in range(VISITORS):
                visitors.start_soon(come_and_go, served, random.Random(seed * 1_000 + index))
        publishers.cancel_scope.cancel()
        await served.wait_left()
    assert given > VISITORS * VISITS


async def publish_on(served: Stage) -> None:
    """Publish one message after the other, at the pace at which the broadcaster takes them."""
    for number in count():
        await served.publish("a", content(number))


async def send_own(peer: Peer) -> None:
    """Send to one client alone, until it is gone."""
    with suppress(ConnectionEnded):
        for index in count():
            await peer.connection.send(f"own {index}")
            await trio.lowlevel.checkpoint()


async def test_a_pong_waits_for_the_end_of_a_frame_and_not_for_the_backlog(contexts: Contexts) -> None:
    settings = Settings(write_timeout=600)
    async with stage(DIRECT, contexts, settings, send_buffer=TINY) as served:
        peer = await served.connect("a", buffer=TINY)
        for _ in range(100):
            await served.publish("a", b"m" * 16 * KIB)
        await peer.ping(b"now")
        # What two kernels hold, one write of ours, and what was taken while the ping came to us.
        data = 0
        while (got := await peer.frame()).opcode == BINARY:
            data += len(got.payload)
        assert got == Frame(PONG, b"now")
        assert data <= 12 * 16 * KIB


VIOLATIONS = {
    "no FIN": b"\x01\x00",
    "a reserved bit": b"\xc1\x00",
    "a pong with that bit": b"\xca\x00",
    "another reserved bit": b"\x91\x00",
    "a continuation": b"\x80\x00",
    "an opcode nobody knows": b"\x83\x00",
    "a mask": b"\x81\x80",
    "a long length that a short one would do for": b"\x82\x7e\x00\x7d" + bytes(125),
    "a very long length that a long one would do for": b"\x82\x7f" + (65_535).to_bytes(8) + bytes(65_535),
    "a long pong": b"\x8a\x7e\x00\x7e" + bytes(126),
    "a control frame in pieces": b"\x09\x00",
    "half a close code": b"\x88\x01\x03",
    "a code that is never sent": b"\x88\x02\x03\xed",
    "data after a close": b"\x88\x02\x03\xe8\x81\x00",
    "a reason that is no text": b"\x88\x03\x03\xe8\xff",
    "text that is none": b"\x81\x01\xff",
}


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_the_parser_of_these_tests_is_strict(data: bytes, step: int) -> None:
    strict = Strict()
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        for start in range(0, len(data), step):
            strict.feed(data[start : start + step])


HELLO = bytes.fromhex("f248cdc9c9f720920000")  # "Hello" nine times


def compressed(payload: bytes, first: int = 0xC1) -> bytes:
    return bytes([first, len(payload)]) + payload


DEFLATED_VIOLATIONS = {
    "another reserved bit": b"\xa1\x00",
    "a control frame": compressed(HELLO, 0xCA),
    "no deflate": compressed(b"\xff" * 8),
    "what is no smaller": compressed(b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
    "the end that is to be left out": compressed(HELLO + b"\x00\x00\xff\xff"),
    "half a message": compressed(HELLO[:5]),
    "a block that is marked as the last": compressed(b"\xf3" + HELLO[1:]),
    "what needs an earlier message": compressed(b"\xf2\x00\x11\x00\x00"),
}


@pytest.mark.parametrize("data", DEFLATED_VIOLATIONS.values(), ids=DEFLATED_VIOLATIONS.keys())
def test_the_parser_is_as_strict_with_what_is_compressed(data: bytes) -> None:
    with pytest.raises((AssertionError, zlib.error)):
        Strict(deflate=True).feed(data)


def test_the_parser_reads_what_is_compressed_and_what_is_not() -> None:
    data = compressed(HELLO) + b"\x81\x05plain"
    strict = Strict(deflate=True)
    frames = [got for index in range(len(data)) for got in strict.feed(data[index : index + 1])]
    assert frames == [Frame(TEXT, b"Hello" * 9), Frame(TEXT, b"plain")]
    assert [frame.deflated for frame in frames] == [True, False]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_the_parser_of_these_tests_takes_what_is_right(size: int) -> None:
    head = {0: bytes([size % 256]), 1: b"\x7e" + size.to_bytes(8)[-2:], 2: b"\x7f" + size.to_bytes(8)}
    data = b"\x82" + head[(size > 125) + (size > 65_535)] + bytes(size)
    strict = Strict()
    frames = [got for start in range(0, len(data), 3) for got in strict.feed(data[start : start + 3])]
    assert frames == [Frame(BINARY, bytes(size))]
    assert not strict.halfway
