"""The writer owns a connection's socket: only it writes, shuts and closes, and it gives up when nothing moves.

It never reads, and never raises for what the client does: a client that is lost is seen by whoever reads.
"""

from __future__ import annotations

import socket as stdlib_socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import TypeAlias, cast

import trio

TCPStream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"

# One send: what a fast client takes at once, and little enough that progress on a slow one is seen.
PLAIN_PIECE = 64 * 1024
# One TLS record: what OpenSSL encrypts is out of our hands until all of it is sent, so the deadline is per record.
TLS_PIECE = 16 * 1024
# What one system call takes on Linux and macOS (IOV_MAX).
MAX_VIEWS = 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Writer:
    """All writing on one connection, in the order in which it was asked for.

    `timeout` is in seconds, and runs while the kernel takes no bytes: a client that reads slowly lives, one that reads
    nothing is reset.
    """

    def __init__(self, stream: TCPStream, timeout: float) -> None:
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.socket = plain.socket
        self._timeout = timeout
        self._last = inf
        self._lock = trio.Lock()
        self._scopes: set[trio.CancelScope] = set()
        self._rest: deque[memoryview] = deque()  # of frames that were begun; views of bytes that others share
        self._full = False  # the kernel took less than it was offered
        self._data = False
        self._shut = False
        self._closed = False
        self.stalled = False  # reset because nothing moved for `timeout`
        self.ready = False
        # The socket object's own method, never a number: a closed connection's number is soon another client's.
        self.send: Callable[[bytes], int] = self.socket._sock.send  # type: ignore[attr-defined]  # noqa: SLF001

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
        with self._patience() as scope:
            async with self._lock:
                await self._write([memoryview(data)])
        if scope.cancelled_caught:
            self._give_up()

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
        self._progressed()

    def close(self) -> None:
        """Close the socket now; what the kernel has taken is still delivered. Harmless twice."""
        self._shut = self._closed = True
        self._data = self.ready = False
        self._rest = deque()
        self.socket.close()

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
                await self._write([])
                if room and self._tls is None and not self._closed:
                    await self._wait_for_room()
        if scope.cancelled_caught:
            self._give_up()

    async def _write(self, views: list[memoryview]) -> None:
        """Write what was begun, then `views`."""
        if self._shut:  # while we waited for the lock
            return
        rest = self._rest  # ours to empty: closing leaves us this one and begins another
        rest.extend(views)
        try:
            while rest:
                await (self._write_plain(rest) if self._tls is None else self._write_tls(self._tls, rest))
                rest.popleft()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # The client is lost, or another task has reset it. Closing wakes the reader, who tells the application.
            self.reset()

    async def _write_plain(self, rest: deque[memoryview]) -> None:
        while rest[0]:
            sent = await self.socket.send(rest[0][:PLAIN_PIECE])
            rest[0] = rest[0][sent:]  # at once: cancelled in the next wait, the rest begins where the kernel stopped
            self._progressed()

    async def _wait_for_room(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except (OSError, trio.ClosedResourceError):
            self.reset()
        self._full = False

    def _offer(self, views: list[memoryview]) -> None:
        """Hand views to the kernel and keep what it does not take."""
        if not (self._rest or self._scopes):
            views = _after(views, self._gather(views))
        self._rest.extend(views)
        self._full = self._full or bool(views)
        self._look()

    def _gather(self, views: list[memoryview]) -> int:
        try:
            return cast("int", self.socket._sock.sendmsg(views[:MAX_VIEWS]))  # type: ignore[attr-defined]  # noqa: SLF001
        except BlockingIOError:
            return 0
        except OSError:
            self.reset()
            return sum(map(len, views))

    def _check_data(self) -> None:
        if not self._data:
            raise trio.BrokenResourceError("the connection is closing")

    def _look(self) -> None:
        self.ready = self._data and self._tls is None and not (self._rest or self._full or self._scopes)

    async def _write_tls(self, stream: trio.SSLStream[trio.SocketStream], rest: deque[memoryview]) -> None:
        while rest[0]:
            # Gone before it is sent: OpenSSL has it, and what is cancelled here can't be sent again.
            piece, rest[0] = rest[0][:TLS_PIECE], rest[0][TLS_PIECE:]
            await stream.send_all(piece)
            self._progressed()

    @contextmanager
    def _patience(self, *, shield: bool = True) -> Iterator[trio.CancelScope]:
        """A deadline that moves with every progress, for the task that writes and those behind it."""
        self.ready = False
        with trio.CancelScope(shield=shield, deadline=self._deadline()) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
                self._look()

    def _progressed(self) -> None:
        deadline = self._deadline()
        for scope in self._scopes:
            scope.deadline = deadline

    def _deadline(self) -> float:
        return min(trio.current_time() + self._timeout, self._last)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "shut" if self._shut else "open"
        return f"<Writer {state} {len(self._scopes)} writing>"


def _after(views: list[memoryview], taken: int) -> list[memoryview]:
    """Return what is left of `views` after the first `taken` bytes."""
    for index, view in enumerate(views):
        if taken < len(view):
            return [view[taken:], *views[index + 1 :]]
        taken -= len(view)
    return []
