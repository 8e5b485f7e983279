"""A client that reads a byte at a time costs nobody else anything, and lives while it reads."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
import trio
import trio.testing

from tests.transports.stage import DIRECT, TINY, Contexts, Peer, Stage, Way, stage
from triocast import Settings

KIB = 1024
MESSAGE = 16 * KIB
NOISE = random.Random(0).randbytes(MESSAGE // 2).hex().encode()  # no less than half of it when it is compressed
COMPRESSOR = 300 * KIB  # what zlib needs for a moment, whoever is in the group
WRITE_TIMEOUT = 10.0
SLOW = Settings(write_timeout=WRITE_TIMEOUT, ping_interval=86_400, max_lag=1_000, max_lag_bytes=8 * KIB * KIB)


def numbered(number: int) -> bytes:
    return b"%d " % number + NOISE


async def nibble(peer: Peer, size: int) -> bytes:
    """Read `size` bytes one by one, each in a call of its own."""
    data = bytearray()
    while len(data) < size:
        try:
            data += peer.socket._sock.recv(1)  # type: ignore[attr-defined]
        except BlockingIOError:
            await trio.lowlevel.wait_readable(peer.socket)
        if len(data) % 100 == 0:
            await trio.lowlevel.checkpoint()
    return bytes(data)


async def test_who_reads_a_byte_at_a_time_is_not_reset_and_the_others_get_everything_meanwhile(
    contexts: Contexts, mock_clock: trio.testing.MockClock
) -> None:
    async with stage(DIRECT, contexts, SLOW, send_buffer=TINY) as served:
        slow, fast = await served.connect("a", buffer=TINY), [await served.connect("a", buffer=TINY) for _ in range(5)]
        received = bytearray()
        for number in range(40):
            await _publish_to(served, fast, number)
            if number % 4 == 3:
                # As much as has the kernels move, and nearly as late as can be: eight times over more than the timeout.
                received += await nibble(slow, 4 * TINY)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(WRITE_TIMEOUT * 0.9)
        assert served.push.hub.connections == 6
        slow.read_before(bytes(received))
        assert [await slow.message() for _ in range(40)] == [numbered(number) for number in range(40)]
        await served.publish("a", "now")
        assert await slow.message() == b"now"


async def test_who_reads_a_byte_a_while_delays_nobody_and_is_counted_as_behind(contexts: Contexts) -> None:
    settings = Settings(write_timeout=600, max_lag=16)
    async with stage(DIRECT, contexts, settings, send_buffer=TINY) as served:
        slow, fast = await served.connect("a", buffer=TINY), [await served.connect("a", buffer=TINY) for _ in range(5)]
        behind = []
        for number in range(200):
            receipt = await served.push.group("a").send(numbered(number))
            behind.append(receipt.behind)
            for peer in fast:
                assert await peer.message() == numbered(number)
            await nibble(slow, 1)
        assert behind[0] == 0
        assert min(behind[20:]) >= 1
        assert not slow.connection.ended


async def test_who_reads_a_byte_a_second_costs_the_others_no_time_and_is_given_up_in_time(
    way: Way, contexts: Contexts, mock_clock: trio.testing.MockClock
) -> None:
    """So little makes no kernel say that it has room again: nothing moves."""
    async with stage(way, contexts, SLOW, send_buffer=TINY) as served:
        slow, fast = await served.connect("a", buffer=TINY), [await served.connect("a", buffer=TINY) for _ in range(5)]
        began = trio.current_time()
        behind = []
        for second in range(30):
            payload = random.Random(second).randbytes(MESSAGE)
            behind.append((await served.push.group("a").send(payload)).behind)
            for peer in fast:
                assert await peer.message() == payload
            # The clock moves by our steps only: whoever was kept waiting for a time would wait for ever.
            assert trio.current_time() == pytest.approx(began + second)
            with suppress(BlockingIOError, ConnectionResetError):
                slow.socket._sock.recv(1)  # type: ignore[attr-defined]
            await trio.testing.wait_all_tasks_blocked()
            assert not slow.connection.ended or second >= WRITE_TIMEOUT
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        assert slow.connection.ended
        assert max(behind) >= 1
        assert behind[-1] == 0
        assert served.push.hub.connections == len(fast)


async def test_what_is_held_for_clients_that_stall_does_not_grow(contexts: Contexts) -> None:
    """Twenty stall one after the other, each holding other bytes; then much is published."""
    log = 64 * MESSAGE
    settings = Settings(write_timeout=600, max_lag_bytes=log, history_bytes=MESSAGE, max_message=2 * MESSAGE)
    async with traced_stage(DIRECT, contexts, settings) as served:
        fast = await served.connect("a", buffer=TINY)
        stalled = []
        for number in range(60):
            if number % 3 == 0:
                stalled.append(await served.connect("a", buffer=TINY))
            await _publish_to(served, [fast], number)
        for number in range(100):
            await _publish_to(served, [fast], number)
        with flat_memory(log // 4):
            for number in range(600):
                await _publish_to(served, [fast], number)
        await trio.testing.wait_all_tasks_blocked()
        assert (await served.push.group("a").info()).behind == len(stalled)


async def test_what_is_held_for_one_who_reads_a_byte_a_while_does_not_grow(way: Way, contexts: Contexts) -> None:
    log = 64 * MESSAGE
    settings = Settings(write_timeout=600, max_lag_bytes=log, history_bytes=MESSAGE, max_message=2 * MESSAGE)
    async with traced_stage(way, contexts, settings) as served:
        slow, fast = await served.connect("a", buffer=TINY), await served.connect("a", buffer=TINY)
        for number in range(200):
            await _publish_to(served, [fast], number)
        with flat_memory(log // 4 + COMPRESSOR * way.deflate):
            for number in range(500):
                await _publish_to(served, [fast], number)
                await nibble(slow, 1)
        assert not slow.connection.ended


async def _publish_to(served: Stage, peers: list[Peer], number: int) -> None:
    await served.publish("a", numbered(number))
    for peer in peers:
        assert await peer.message() == numbered(number)


@asynccontextmanager
async def traced_stage(way: Way, contexts: Contexts, settings: Settings) -> AsyncIterator[Stage]:
    """Count what is allocated, from before the first byte: what is freed counts only if it was counted."""
    tracemalloc.start()
    try:
        async with stage(way, contexts, settings, send_buffer=TINY) as served:
            yield served
    finally:
        tracemalloc.stop()


@contextmanager
def flat_memory(limit: int) -> Iterator[None]:
    """Fail if what is allocated inside ever grows by more than `limit` bytes."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    yield
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < limit
