"""The link's writer alone, on one loopback connection: what goes out in which order, and what stops it."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from tests.transports.stage import PATIENCE, TINY, Contexts
from triocast.link.writing import MAX_VIEWS, PLAIN_PIECE, TURN_EVERY, Writer

TIMEOUT = 10.0
MANY = 4 * 1024 * 1024  # bytes: more than two kernels hold with small buffers


@dataclass
class Pair:
    """A writer and the client's end of its connection."""

    writer: Writer
    client: trio.socket.SocketType

    def fill(self) -> bytes:
        """Write until the kernels take no more; return what they took."""
        taken = 0
        with pytest.raises(BlockingIOError):
            while True:
                taken += self.writer.send(b"f" * 1_000)
        return b"f" * taken

    async def exactly(self, size: int) -> bytes:
        data = b""
        with trio.fail_after(PATIENCE):
            while len(data) < size:
                got = await self.client.recv(size - len(data))
                assert got, f"the end after {len(data)} of {size} bytes"
                data += got
        return data

    async def silence(self) -> None:
        """See that nothing more is there to read."""
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BlockingIOError):
            self.client._sock.recv(1)  # type: ignore[attr-defined]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A writer that takes data, with small buffers."""
    with trio.socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TINY)
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = trio.socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
        await client.connect(listener.getsockname())
        server, _ = await listener.accept()
    writer = Writer(trio.SocketStream(server), TIMEOUT)
    writer.begin_data()
    yield Pair(writer, client)
    client.close()
    writer.reset()


async def test_it_is_ready_only_between_begin_data_and_end_data(pair: Pair) -> None:
    fresh = Writer(trio.SocketStream(pair.writer.socket), TIMEOUT)
    assert not fresh.ready
    fresh.begin_data()
    assert fresh.ready
    fresh.end_data()
    assert not fresh.ready
    with pytest.raises(trio.BrokenResourceError):
        await fresh.wait_writable()
    with pytest.raises(trio.BrokenResourceError):
        await fresh.send_frames([b"late"])
    await pair.silence()


@pytest.mark.parametrize("over", [Writer.close, Writer.reset, Writer.lose])
async def test_it_is_not_ready_once_closed_not_even_by_a_handshake_that_is_answered_too_late(
    pair: Pair,
    over: Callable[[Writer], None],
) -> None:
    over(pair.writer)
    assert not pair.writer.ready
    pair.writer.begin_data()
    assert not pair.writer.ready
    with pytest.raises(trio.BrokenResourceError):
        await pair.writer.send_frames([b"late"])


async def test_it_is_not_ready_once_its_side_is_shut(pair: Pair) -> None:
    pair.writer.end_data()
    await pair.writer.finish()
    pair.writer.begin_data()
    assert not pair.writer.ready
    await pair.writer.send_all(b"late")
    assert await pair.client.recv(10) == b""


async def test_it_is_not_ready_while_anything_is_pending(pair: Pair, nursery: trio.Nursery) -> None:
    writer = pair.writer
    assert writer.ready
    filled = pair.fill()
    nursery.start_soon(writer.send_all, b"control")
    await trio.testing.wait_all_tasks_blocked()
    assert not writer.ready
    await pair.exactly(len(filled) + len(b"control"))
    await trio.testing.wait_all_tasks_blocked()
    assert writer.ready
    writer.keep(memoryview(b"rest"))
    assert not writer.ready
    await writer.wait_writable()
    assert writer.ready
    assert await pair.exactly(4) == b"rest"
    filled = pair.fill()
    nursery.start_soon(writer.send_frames, [b"frame"])
    await trio.testing.wait_all_tasks_blocked()
    assert not writer.ready
    assert await pair.exactly(len(filled) + 5) == filled + b"frame"
    await trio.testing.wait_all_tasks_blocked()
    await writer.wait_writable()
    assert writer.ready


async def test_it_is_not_ready_between_two_that_write_control(pair: Pair) -> None:
    for _ in range(20):  # the order in which tasks have their turn is random
        filled, done = pair.fill(), []

        async def control(done: list[None]) -> None:
            await pair.writer.send_all(b"control")
            done.append(None)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(control, done)
                await trio.testing.wait_all_tasks_blocked()
                await pair.exactly(len(filled))
                while not pair.writer.ready:
                    await trio.lowlevel.checkpoint()
                assert len(done) == 3
        await pair.exactly(21)


async def test_over_tls_it_is_never_ready_and_has_no_outlet(
    pair: Pair, contexts: Contexts, nursery: trio.Nursery
) -> None:
    server_context, client_context = contexts
    server = trio.SSLStream(trio.SocketStream(pair.writer.socket), server_context, server_side=True)
    client = trio.SSLStream(trio.SocketStream(pair.client), client_context, server_hostname="localhost")
    nursery.start_soon(client.do_handshake)
    await server.do_handshake()
    writer = Writer(server, TIMEOUT)
    assert writer.outlet is None
    writer.begin_data()
    assert not writer.ready
    nursery.start_soon(writer.send_frames, [b"one ", b"two"])
    received = b""
    while len(received) < 7:
        received += bytes(await client.receive_some())
    assert received == b"one two"
    await trio.testing.wait_all_tasks_blocked()
    assert not writer.ready


async def test_the_rest_of_a_started_frame_goes_first_then_control_then_data(pair: Pair, nursery: trio.Nursery) -> None:
    filled = pair.fill()
    pair.writer.keep(memoryview(b"rest "))

    async def data() -> None:
        await pair.writer.wait_writable()
        await pair.writer.send_frames([b"data"])

    nursery.start_soon(data)
    await trio.testing.wait_all_tasks_blocked()  # it waits for room, and whoever comes now came after it
    nursery.start_soon(pair.writer.send_all, b"control ")
    await trio.testing.wait_all_tasks_blocked()
    assert await pair.exactly(len(filled)) == filled
    assert await pair.exactly(17) == b"rest control data"


async def test_frames_of_who_did_not_wait_go_behind_the_rest_of_a_started_frame(pair: Pair) -> None:
    pair.writer.keep(memoryview(b"rest "))
    await pair.writer.send_frames([b"data"])
    assert await pair.exactly(9) == b"rest data"


async def test_frames_of_who_did_not_wait_never_go_into_the_middle_of_control(
    pair: Pair, nursery: trio.Nursery
) -> None:
    control = b"control " * 50_000
    nursery.start_soon(pair.writer.send_all, control)
    await trio.testing.wait_all_tasks_blocked()
    begun = 0
    while not _has_room(pair.writer):
        begun += len(pair.client._sock.recv(1_000))  # type: ignore[attr-defined]
    nursery.start_soon(pair.writer.send_frames, [b"data"])
    assert await pair.exactly(len(control) - begun + 4) == control[begun:] + b"data"


def _has_room(writer: Writer) -> bool:
    return bool(select.select([], [writer.socket.fileno()], [], 0)[1])


async def test_control_that_never_ends_does_not_keep_data_from_going_out(pair: Pair, nursery: trio.Nursery) -> None:
    filled = pair.fill()

    async def control() -> None:
        while True:
            await pair.writer.send_all(b"control " * 100)

    async def read() -> None:
        while True:
            await pair.client.recv(10_000)

    pair.writer.keep(memoryview(b"rest"))
    for _ in range(3):
        nursery.start_soon(control)
    nursery.start_soon(read)
    with trio.fail_after(PATIENCE):
        for _ in range(20):
            await pair.writer.wait_writable()
            await pair.writer.send_frames([b"d" * len(filled)])
    pair.writer.reset()
    nursery.cancel_scope.cancel()


async def test_who_writes_without_end_lets_others_have_their_turn(pair: Pair, nursery: trio.Nursery) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(count_turns)
    for _ in range(10 * TURN_EVERY):
        await pair.writer.send_all(b"x")
        await pair.exactly(1)
        before = turns
    assert turns >= 9
    assert before


async def test_a_close_waits_for_the_rest_of_a_started_frame_and_no_data_follows_it(
    pair: Pair, nursery: trio.Nursery
) -> None:
    filled = pair.fill()
    pair.writer.keep(memoryview(b"rest "))
    pair.writer.end_data()
    nursery.start_soon(pair.writer.send_all, b"close")
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BrokenResourceError):
        await pair.writer.send_frames([b"data"])
    assert await pair.exactly(len(filled) + 10) == filled + b"rest close"
    await pair.silence()


@pytest.mark.parametrize("largest", [200_000, 30_000, 300], ids=["one view", "a few", "thousands"])
async def test_cancelled_while_it_waits_it_loses_nothing_and_repeats_nothing(
    pair: Pair, largest: int, nursery: trio.Nursery
) -> None:
    rng = random.Random(5)
    expected = random.Random(6).randbytes(200_000)
    rest = memoryview(expected)[pair.writer.send(expected) :]
    while rest:
        size = rng.randrange(largest + 1) if largest < len(expected) else largest
        pair.writer.keep(rest[:size])
        rest = rest[size:]
    received = bytearray()

    async def write() -> None:
        while pair.writer._rest:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_after, scope, rng.randrange(6))
                await pair.writer.wait_writable()

    async def read() -> None:
        while len(received) < len(expected):
            received.extend(await pair.client.recv(rng.randrange(1, 3_000)))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as both:
            both.start_soon(write)
            both.start_soon(read)
    assert bytes(received) == expected
    await pair.silence()


async def _cancel_after(scope: trio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_cancelled_in_the_middle_of_frames_the_rest_goes_out_before_a_close(
    pair: Pair, nursery: trio.Nursery
) -> None:
    frame = b"frame" * 100_000
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await pair.writer.send_frames([frame])
    assert scope.cancelled_caught
    pair.writer.end_data()
    nursery.start_soon(pair.writer.send_all, b"close")
    assert await pair.exactly(len(frame) + 5) == frame + b"close"


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


Waits = Callable[[Writer], Awaitable[None]]


@pytest.mark.parametrize(
    "wait",
    [Writer.wait_writable, lambda writer: writer.send_frames([b"data"])],
    ids=["for room", "for the end of frames"],
)
async def test_a_wait_lasts_while_the_client_reads_and_ends_with_a_reset_when_it_has_stopped(
    pair: Pair, wait: Waits, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    pair.fill()
    pair.writer.keep(memoryview(bytes(MANY)))
    failed = trio.Event()

    async def write() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await wait(pair.writer)
        failed.set()

    nursery.start_soon(write)
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(TIMEOUT * 0.9)
        await pair.exactly(MANY // 8)
    assert not failed.is_set()
    while True:  # until it writes no more, and its clock runs
        await trio.testing.wait_all_tasks_blocked(0.02)
        try:
            pair.client._sock.recv(1, socket.MSG_PEEK)  # type: ignore[attr-defined]
        except BlockingIOError:
            continue
        break
    stopped = trio.current_time()
    while not failed.is_set():  # the client's kernel may have been late to take the last bytes
        mock_clock.jump(TIMEOUT / 8)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() <= stopped + TIMEOUT * 1.5
    assert pair.writer.closed
    with pytest.raises(ConnectionResetError):
        while await pair.client.recv(100_000):
            pass


async def test_what_the_kernel_does_not_take_is_kept_as_views_of_the_very_bytes(
    pair: Pair, nursery: trio.Nursery
) -> None:
    frames = [bytes([index]) * 100_000 for index in range(5)]
    nursery.start_soon(pair.writer.send_frames, frames)
    await trio.testing.wait_all_tasks_blocked()
    kept = list(pair.writer._rest)
    assert kept
    assert [view.obj for view in kept] == frames[-len(kept) :]
    assert all(view.obj is frame for view, frame in zip(reversed(kept), reversed(frames), strict=False))
    assert await pair.exactly(500_000) == b"".join(frames)


@pytest.mark.parametrize("count", [MAX_VIEWS - 1, MAX_VIEWS, MAX_VIEWS + 1, 3 * MAX_VIEWS])
async def test_more_frames_than_one_call_of_the_kernel_takes_all_go_out_in_order(
    pair: Pair, count: int, nursery: trio.Nursery
) -> None:
    frames = [b"%5d" % index for index in range(count)]
    nursery.start_soon(pair.writer.send_frames, frames)
    assert await pair.exactly(5 * count) == b"".join(frames)
    await pair.silence()


@pytest.mark.parametrize(("size", "count", "most"), [(5, 5_000, 5 * MAX_VIEWS), (16_000, 60, PLAIN_PIECE + 16_000)])
async def test_what_waits_for_room_goes_out_in_few_calls_of_bounded_size(
    pair: Pair, size: int, count: int, most: int, nursery: trio.Nursery
) -> None:
    gather, offered = pair.writer._gather, []

    def count_calls(views: Sequence[memoryview]) -> int:
        offered.append((len(views), sum(map(len, views))))
        return gather(views)

    filled = pair.fill()
    pair.writer._gather = count_calls
    frames = [b"%*d" % (size, index) for index in range(count)]
    nursery.start_soon(pair.writer.send_frames, frames)
    await trio.testing.wait_all_tasks_blocked()
    assert await pair.exactly(len(filled) + size * count) == filled + b"".join(frames)
    assert max(views for views, _ in offered) <= MAX_VIEWS
    assert max(total for _, total in offered) <= most
    # At least half of what the client's kernel has room for goes with each; a call a frame would be `count`.
    assert len(offered) <= 4 * (1 + size * count // min(most, TINY))


async def test_after_a_reset_nothing_is_written(pair: Pair, nursery: trio.Nursery) -> None:
    send = pair.writer.send
    pair.fill()
    pair.writer.keep(memoryview(b"rest"))
    nursery.start_soon(pair.writer.send_all, b"waiting")
    await trio.testing.wait_all_tasks_blocked()
    pair.writer.reset()
    await pair.writer.send_all(b"later")
    await pair.writer.finish()
    with pytest.raises(trio.BrokenResourceError):
        await pair.writer.wait_writable()
    with pytest.raises(trio.BrokenResourceError):
        await pair.writer.send_frames([b"later"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        send(b"later")
    received = b""
    with pytest.raises(ConnectionResetError):
        while True:
            received += await pair.client.recv(100_000)
    assert not received.strip(b"f")


async def test_a_socket_that_is_lost_while_the_kernel_is_asked_is_closed_at_once(
    pair: Pair, nursery: trio.Nursery
) -> None:
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
        while True:
            await pair.writer.wait_writable()
            await pair.writer.send_frames([b"data"])
    assert pair.writer.closed
    assert not pair.writer.ready


async def test_a_writer_that_is_closed_never_writes_to_who_got_its_descriptor_next(pair: Pair) -> None:
    send, number = pair.writer.send, pair.writer.socket.fileno()
    pair.writer.close()
    ends: list[socket.socket] = []
    while all(each.fileno() != number for each in ends):
        ends += socket.socketpair()
    with pytest.raises(OSError, match="Bad file descriptor"):
        send(b"for somebody else")
    for each in ends:
        each.setblocking(False)
        with pytest.raises(BlockingIOError):
            each.recv(1)
    for each in ends:
        each.close()


async def test_the_socket_of_a_trio_socket_can_be_written_to_without_waiting() -> None:
    """What `Writer` builds on beside trio's public face: `_sock`, the standard library's socket, not blocking."""
    with trio.socket.socket() as sock:
        inner = getattr(sock, "_sock", None)
        told = f"trio {trio.__version__} keeps its socket elsewhere than in _sock: mend triocast.link.writing.Writer"
        assert isinstance(inner, socket.socket), told
        assert inner.getblocking() is False, "trio's sockets block: Writer.send would hold up the event loop"
        assert callable(inner.send), told
        assert callable(inner.sendmsg), told
        assert inner.fileno() == sock.fileno()
    assert inner.fileno() == -1, "closing trio's socket leaves the inner one open: Writer.send would go on writing"
