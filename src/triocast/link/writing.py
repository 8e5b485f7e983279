"""The writer owns a connection's socket: only it writes, shuts and closes, and it gives up when nothing moves.

It never reads, and never raises for what the client does: a client that is lost is seen by whoever reads.
"""

from __future__ import annotations

import socket as stdlib_socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from math import inf
from typing import TypeAlias

import trio

from triocast.link.stall import Stall, unacknowledged

TCPStream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"

# Bytes gathered for one call of the kernel: what a fast client takes at once, and little enough that others have their
# turn soon. A view that is larger goes whole, since the kernel takes no more of it than it has room for.
PLAIN_PIECE = 64 * 1024
# One TLS record: what OpenSSL has encrypted has to be sent, so it is given no more than it sends in one go.
TLS_PIECE = 16 * 1024
# What one system call takes on Linux and macOS (IOV_MAX).
MAX_VIEWS = 1024
# How many times the timeout may pass for those who wait for something else than the kernel: each other, or a TLS peer
# that wants to talk about keys in the middle of a write. Whoever waits for the kernel has given up long before.
LONGER = 2
# Writes that the kernel took at once, without a turn for other tasks: one costs less than a turn does.
TURN_EVERY = 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
MAX_USER_TIMEOUT = 2**31 - 1  # milliseconds; an int of the kernel's


class Writer:
    """All writing on one connection, in the order in which it was asked for.

    `timeout` is in seconds, and runs while nothing moves: our kernel takes no bytes, nor the client's any of those that
    ours holds (on Linux, which tells). A client that reads slowly lives, one that reads nothing is reset.
    """

    # The broadcaster looks at `ready` and `send` of every client in every round: a dict for each would be one more
    # place in memory to fetch.
    __slots__ = (
        "_at_once",
        "_closed",
        "_data",
        "_full",
        "_gather",
        "_last",
        "_lock",
        "_plain",
        "_rest",
        "_scopes",
        "_shut",
        "_timeout",
        "_tls",
        "ready",
        "send",
        "socket",
        "stalled",
    )

    def __init__(self, stream: TCPStream, timeout: float) -> None:
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.socket = plain.socket
        self._plain = plain
        if self._tls is not None:
            # What OpenSSL sends of its own accord, when keys change, is written in the same way.
            self._tls.transport_stream = _Underneath(plain, self._drain)  # type: ignore[assignment]
        self._timeout = timeout
        self._last = inf
        self._lock = trio.Lock()
        self._scopes: set[trio.CancelScope] = set()
        self._rest: deque[memoryview] = deque()  # of frames that were begun; views of bytes that others share
        self._at_once = 0
        self._full = False  # the kernel took less than it was offered
        self._data = False
        self._shut = False
        self._closed = False
        self.stalled = False  # reset because nothing moved for `timeout`
        self.ready = False
        # The socket object's own method, never a number: a closed connection's number is soon another client's.
        self.send: Callable[[bytes], int] = self.socket._sock.send  # type: ignore[attr-defined]  # noqa: SLF001
        self._gather: Callable[[Iterable[memoryview]], int] = self.socket._sock.sendmsg  # type: ignore[attr-defined]  # noqa: SLF001

    @property
    def closed(self) -> bool:
        """True once the socket is closed, by us or after the client was lost."""
        return self._closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`, after what other tasks are writing; returns having dropped it once the writer is shut.

        Cancellation waits for the end of the write, which has a progress deadline: half a frame or half a response is
        worse than a moment. When the deadline passes the connection is reset, which frees all who wait behind it.
        """
        if self._shut:
            await trio.lowlevel.checkpoint()
            return
        rest = memoryview(data)
        if self._tls is None and not self.pending:
            rest = self._send_now(rest)
        if rest:
            with self._patience() as scope:
                async with self._lock:
                    await self._write([rest])
            if scope.cancelled_caught:
                self._give_up()
        elif self._at_once % TURN_EVERY == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _send_now(self, data: memoryview) -> memoryview:
        """Hand `data` to the kernel; return what it did not take, nothing once the client is lost."""
        self._at_once += 1
        try:
            return data[self._gather([data]) :]
        except BlockingIOError:
            return data
        except OSError:
            self.reset()
            return data[:0]

    # Data frames, from `begin_data` to `end_data`

    def begin_data(self) -> None:
        """The handshake is answered: frames may be written, unless the client was lost meanwhile."""
        self._data = not self._shut
        self._look()

    def end_data(self) -> None:
        """A Close frame comes next: after it no data, only the rest of a frame that was begun goes before it."""
        self._data = self.ready = False

    @property
    def outlet(self) -> Writer | None:
        """Where a frame can be written without waiting; over TLS there is no such place."""
        return self if self._tls is None else None

    @property
    def takes_data(self) -> bool:
        """Whether data frames may be written: after `begin_data`, before `end_data`, and while the socket is open."""
        return self._data

    @property
    def pending(self) -> bool:
        """Whether something is being written, or was begun and is not yet with the kernel; `timeout` runs for it."""
        return bool(self._rest or self._scopes)

    def expect_acknowledgements(self, seconds: float) -> None:
        """Have the kernel end the connection when what it has sent is not acknowledged for so long, where it can."""
        option = getattr(stdlib_socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            with suppress(OSError):  # a Unix socket, or one that is closed
                self.socket.setsockopt(stdlib_socket.IPPROTO_TCP, option, min(round(seconds * 1000), MAX_USER_TIMEOUT))

    async def wait_writable(self) -> None:
        """Write what is left of frames that were begun, and wait until the client can take more.

        Raises `trio.BrokenResourceError` after `end_data`, or when nothing moved for the timeout; then the connection
        is reset. Cancelled, nothing is lost: the rest is kept.
        """
        if self._full or self._rest or self._scopes:
            await self._flush(room=True)
            if self._scopes:
                # Control came meanwhile and goes first. Once: a client that never stops pinging is given data as well.
                await self._flush(room=True)
        else:
            await trio.lowlevel.checkpoint()
        self._check_data()

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Write whole frames, after what is being written; to be called right after `wait_writable`, in the same step.

        Returns when the kernel has all of them. Until then it keeps views of what it has not, also when cancelled:
        they go out before anything else. Raises as `wait_writable`, possibly having written all.
        """
        self._check_data()
        if self._tls is not None:
            await self.send_all(b"".join(frames))
        elif frames:
            self._offer([memoryview(frame) for frame in frames])
            if self._rest:
                await self._flush(room=False)
        self._check_data()

    def keep(self, rest: memoryview) -> None:
        """Keep the rest of a frame that the kernel took in part; it goes out before anything else."""
        self._rest.append(rest)
        self._full = True
        self.ready = False

    def fill(self) -> None:
        """The kernel took nothing: wait for room before anything else is written."""
        self._full = True
        self.ready = False

    def lose(self) -> None:
        """The socket is broken: reset it."""
        self.reset()

    async def finish(self) -> None:
        """Send FIN after what is being written; later writes are dropped. Reading goes on."""
        with self._patience() as scope:
            async with self._lock:
                await self._write([])
                self._shut = True
                with suppress(OSError):
                    self.socket.shutdown(stdlib_socket.SHUT_WR)
        if scope.cancelled_caught:
            self._give_up()

    def last_call(self, seconds: float) -> None:
        """Allow all writing together at most `seconds` more, progress or not: the server wants to leave."""
        self._last = min(self._last, trio.current_time() + seconds)
        self._renew()

    def close(self) -> None:
        """Close the socket now; what the kernel has taken is still delivered. Harmless twice."""
        self._shut = self._closed = True
        self._data = self.ready = False
        self._rest = deque()
        self.socket.close()
        if self._tls is not None:  # or we and the stream would know each other until the garbage collector runs
            self._tls.transport_stream = self._plain

    def reset(self) -> None:
        """Close the socket with RST: unsent bytes are dropped, and whoever waits on the socket is woken."""
        if not self._closed:
            with suppress(OSError):
                self.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    def _give_up(self) -> None:
        self.stalled = self._last == inf  # else it is the server that has no time
        self.reset()

    async def _flush(self, *, room: bool) -> None:
        """Write what was begun, in the queue of all who write, and wait for more `room` than that if asked to."""
        with self._patience(shield=False) as scope:
            async with self._lock:
                await self._write([], room=room)
        if scope.cancelled_caught:
            self._give_up()

    async def _write(self, views: list[memoryview], *, room: bool = False) -> None:
        """Write what was begun, then `views`."""
        if self._shut:  # while we waited for the lock
            return
        rest = self._rest  # ours to empty: closing leaves us this one and begins another
        rest.extend(views)
        try:
            if self._tls is not None:
                await self._write_tls(self._tls, rest)
            else:
                await self._drain(rest)
                if room:
                    await self._wait_for_room()
                    self._full = False
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # The client is lost, or another task has reset it. Closing wakes the reader, who tells the application.
            self.reset()

    async def _write_tls(self, stream: trio.SSLStream[trio.SocketStream], rest: deque[memoryview]) -> None:
        while rest:
            # Gone before it is sent: OpenSSL has it, and what is cancelled here can't be sent again.
            piece = rest[0][:TLS_PIECE]
            _drop(rest, len(piece))
            await stream.send_all(piece)

    async def _drain(self, rest: deque[memoryview]) -> None:
        """Hand all of `rest` to the kernel. Cancelled in a wait, what is left begins exactly where the kernel stopped.

        Raises OSError or `trio.BrokenResourceError` for a client that is lost, or whose connection was reset.
        """
        while rest:
            if not self._push(rest):
                await self._wait_for_room()
            elif rest:
                await trio.lowlevel.checkpoint()

    def _push(self, rest: deque[memoryview]) -> bool:
        """Hand the first of `rest` to the kernel, in one call; False if it took less than it was offered."""
        views = _first(rest)
        try:
            taken = self._gather(views)
        except BlockingIOError:
            return False
        _drop(rest, taken)
        self._renew()
        return taken == sum(map(len, views))

    async def _wait_for_room(self) -> None:
        """Wait until the kernel takes more, or reset the connection once nothing has moved for the timeout."""
        stall: Stall | None = None
        while not self._closed:
            now, queue = trio.current_time(), unacknowledged(self.socket)
            if stall is None:
                stall = Stall(self._timeout, now, queue)
            elif stall.is_over(now, queue):
                self._give_up()
                break
            self._renew()
            # Around the wait alone: cancelling it loses nothing, while OpenSSL can't send again what is cut off.
            with trio.CancelScope(deadline=stall.due):
                await trio.lowlevel.wait_writable(self.socket)
                return
        raise trio.BrokenResourceError("the connection was reset")

    def _offer(self, views: list[memoryview]) -> None:
        """Hand views to the kernel and keep what it does not take."""
        free = not (self._rest or self._scopes)
        self._rest.extend(views)
        if free:
            try:
                self._push(self._rest)
            except OSError:
                self.reset()
        self._full = self._full or bool(self._rest)
        self._look()

    def _check_data(self) -> None:
        if not self._data:
            raise trio.BrokenResourceError("the connection is closing")

    def _look(self) -> None:
        self.ready = self._data and self._tls is None and not (self._rest or self._full or self._scopes)

    @contextmanager
    def _patience(self, *, shield: bool = True) -> Iterator[trio.CancelScope]:
        """A deadline that moves while anything does, for the task that writes and those behind it."""
        self.ready = False
        with trio.CancelScope(shield=shield, deadline=self._deadline()) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
                self._look()

    def _renew(self) -> None:
        deadline = self._deadline()
        for scope in self._scopes:
            scope.deadline = deadline

    def _deadline(self) -> float:
        return min(trio.current_time() + LONGER * self._timeout, self._last)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "shut" if self._shut else "open"
        return f"<Writer {state} {len(self._scopes)} writing>"


class _Underneath(trio.abc.Stream):
    """The stream under TLS, with `send_all` in the writer's own way."""

    def __init__(self, stream: trio.SocketStream, drain: Callable[[deque[memoryview]], Awaitable[None]]) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._drain = drain

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self._drain(deque([memoryview(data)]))
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _first(rest: deque[memoryview]) -> list[memoryview]:
    """Return what to hand over in one call: whole views, until they are PLAIN_PIECE or more together."""
    views, size = [], 0
    for view in islice(rest, MAX_VIEWS):
        views.append(view)
        size += len(view)
        if size >= PLAIN_PIECE:
            break
    return views


def _drop(rest: deque[memoryview], taken: int) -> None:
    """Drop the first `taken` bytes of `rest`."""
    while rest and taken >= len(rest[0]):
        taken -= len(rest.popleft())
    if taken:
        rest[0] = rest[0][taken:]
