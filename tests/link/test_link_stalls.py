"""A peer that takes little lives however little it is; one that has stopped is reset in time."""

from __future__ import annotations

import random
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.link.harness import Application, serve, settings
from triocast.link.stall import LOOKS, Stall, unacknowledged
from triocast.link.writing import Writer

KIB = 1024
TIMEOUT = 10.0
FLOOD = random.Random(1).randbytes(2 * KIB * KIB)
# Of a Unix socket: room is said to be there only once most of it is free, which takes several bites.
BUFFER = 64 * KIB

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a peer has taken")


class Peer:
    """The other end of a writer's connection."""

    def __init__(self, writer: Writer, stream: trio.abc.Stream) -> None:
        self.writer = writer
        self.received = bytearray()
        self._stream = stream

    async def bite(self) -> None:
        """Read until the server's kernel sees it: until its queue is shorter than it was."""
        queue = unacknowledged(self.writer.socket)
        assert queue
        while True:
            self.received += bytes(await self._stream.receive_some(KIB))
            now = unacknowledged(self.writer.socket)
            assert now is not None
            if now < queue:
                return
            queue = now

    async def to_the_end(self, size: int) -> None:
        while len(self.received) < size:
            self.received += bytes(await self._stream.receive_some(64 * KIB))


@asynccontextmanager
async def peer(*, tls: bool) -> AsyncIterator[Peer]:
    """A writer on a Unix socket and its peer."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        server, client = await shaken(ours, theirs) if tls else (trio.SocketStream(ours), trio.SocketStream(theirs))
        yield Peer(Writer(server, TIMEOUT), client)


async def shaken(ours: trio.socket.SocketType, theirs: trio.socket.SocketType) -> tuple[Any, Any]:
    """Return both ends of TLS over a connection."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server = trio.SSLStream(trio.SocketStream(ours), context, server_side=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client = trio.SSLStream(trio.SocketStream(theirs), context, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        await server.do_handshake()
    return server, client


async def until_reset(writer: Writer, clock: trio.testing.MockClock) -> float:
    """Let time pass in small steps until the writer has reset its connection; return the seconds that it took."""
    began = trio.current_time()
    while not writer.closed:
        assert trio.current_time() < began + 3 * TIMEOUT, "a dead peer is kept"
        clock.jump(TIMEOUT / LOOKS / 2)
        await trio.testing.wait_all_tasks_blocked()
    return trio.current_time() - began


@only_linux
@pytest.mark.parametrize("tls", [False, True])
async def test_a_peer_that_takes_a_little_in_every_timeout_gets_all_of_it_and_a_dead_one_is_reset(
    tls: bool, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async with peer(tls=tls) as slow, peer(tls=tls) as dead:
        nursery.start_soon(slow.writer.send_all, FLOOD)
        nursery.start_soon(dead.writer.send_all, FLOOD)
        for _ in range(20):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(TIMEOUT * 0.9)
            await slow.bite()
        assert not slow.writer.closed
        assert dead.writer.stalled
        await slow.to_the_end(len(FLOOD))
        assert slow.received == FLOOD


@only_linux
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("bites", [0, 1, 5])
async def test_a_peer_that_stops_is_reset_within_a_little_more_than_the_timeout(
    bites: int, tls: bool, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async with peer(tls=tls) as one:
        nursery.start_soon(one.writer.send_all, FLOOD)
        for _ in range(bites):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(TIMEOUT * 0.9)
            await one.bite()
        await trio.testing.wait_all_tasks_blocked()
        seconds = await until_reset(one.writer, mock_clock)
        assert TIMEOUT <= seconds <= TIMEOUT * (1 + 1 / LOOKS)
        assert one.writer.stalled


async def test_all_who_wait_behind_a_stalled_write_are_freed_when_it_is_given_up(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with peer(tls=False) as one:
        one.writer.begin_data()
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(one.writer.send_all, FLOOD)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(one.writer.wait_writable)
                nursery.start_soon(one.writer.finish)
                await trio.testing.wait_all_tasks_blocked()
                assert await until_reset(one.writer, mock_clock) <= TIMEOUT * (1 + 1 / LOOKS)


async def test_what_tls_writes_of_its_own_accord_has_the_deadline_as_well(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It is the reading task that answers a change of keys, and no lock or shield of the writer's is around it."""
    async with peer(tls=True) as one:
        stream = one.writer._tls
        assert stream is not None
        broken = trio.Event()

        async def write() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.transport_stream.send_all(FLOOD)
            broken.set()

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert await until_reset(one.writer, mock_clock) <= TIMEOUT * (1 + 1 / LOOKS)
        await broken.wait()


async def test_a_peer_over_tcp_that_reads_nothing_is_reset_although_its_kernel_took_the_first_bytes_late(
    mock_clock: trio.testing.MockClock,
) -> None:
    class Pours(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": 4 * FLOOD})

    async with serve(Pours(), settings(write_timeout=TIMEOUT)) as served:
        client = await served.websocket()
        await client.exactly(1)
        (link,) = served.link.live
        while not link.writer.pending:
            await trio.testing.wait_all_tasks_blocked()
        queue = None
        while (now := unacknowledged(link.writer.socket)) != queue:  # until the kernels have settled
            queue = now
            await trio.testing.wait_all_tasks_blocked(0.3)
        assert await until_reset(link.writer, mock_clock) <= TIMEOUT * (1 + 2 / LOOKS)
        await served.wait_empty()


# The clock alone


def test_a_queue_that_gets_shorter_keeps_a_wait_alive() -> None:
    stall = Stall(TIMEOUT, 0, 1_000)
    now = 0.0
    for queue in range(999, 899, -1):
        while stall.due < now + TIMEOUT * 0.9:
            assert not stall.is_over(stall.due, queue + 1)
        now += TIMEOUT * 0.9
        assert not stall.is_over(now, queue)


def test_a_queue_that_stays_is_over_exactly_at_the_timeout_and_is_looked_at_only_a_few_times() -> None:
    stall, looks = Stall(TIMEOUT, 100, 1_000), 1
    while not stall.is_over(stall.due, 1_000):
        looks += 1
    assert looks == LOOKS
    assert stall.due == pytest.approx(100 + TIMEOUT)


def test_a_queue_that_gets_longer_is_no_progress_and_shorter_than_that_is() -> None:
    stall = Stall(TIMEOUT, 0, 1_000)
    assert not stall.is_over(5, 2_000)
    assert stall.is_over(10, 2_000)
    stall = Stall(TIMEOUT, 0, 1_000)
    assert not stall.is_over(5, 2_000)
    assert not stall.is_over(9, 1_500)
    assert not stall.is_over(18, 1_500)
    assert stall.is_over(19, 1_500)
    assert repr(stall) == "<Stall since 9, 1500 bytes queued>"


def test_where_the_kernel_does_not_tell_there_is_one_look_at_the_timeout() -> None:
    stall = Stall(TIMEOUT, 0, None)
    assert stall.due == TIMEOUT
    assert stall.is_over(TIMEOUT, None)
    # Nor does it help to tell sometimes.
    assert Stall(TIMEOUT, 0, None).is_over(TIMEOUT, 5)
    assert Stall(TIMEOUT, 0, 5).is_over(TIMEOUT, None)


async def test_what_has_no_queue_is_not_told_of() -> None:
    with trio.socket.socket() as listener:
        listener.listen()
        assert unacknowledged(listener) is None
