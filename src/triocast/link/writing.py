"""The writer owns a connection's socket: only it writes, shuts and closes, and it gives up when nothing moves.

It never reads, and never raises for what the client does: a client that is lost is seen by whoever reads.
"""

from __future__ import annotations

import socket as stdlib_socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import TypeAlias

import trio

TCPStream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"

# One send: what a fast client takes at once, and little enough that progress on a slow one is seen.
PLAIN_PIECE = 64 * 1024
# One TLS record: what OpenSSL encrypts is out of our hands until all of it is sent, so the deadline is per record.
TLS_PIECE = 16 * 1024
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
        self._shut = False
        self._closed = False

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
                await self._write(memoryview(data))
        if scope.cancelled_caught:
            self.reset()

    async def finish(self) -> None:
        """Send FIN after what is being written; later writes are dropped. Reading goes on."""
        with self._patience() as scope:
            async with self._lock:
                self._shut = True
                with suppress(OSError):
                    self.socket.shutdown(stdlib_socket.SHUT_WR)
        if scope.cancelled_caught:
            self.reset()

    def last_call(self, seconds: float) -> None:
        """Allow all writing together at most `seconds` more, progress or not: the server wants to leave."""
        self._last = min(self._last, trio.current_time() + seconds)
        self._progressed()

    def close(self) -> None:
        """Close the socket now; what the kernel has taken is still delivered. Harmless twice."""
        self._shut = self._closed = True
        self.socket.close()

    def reset(self) -> None:
        """Close the socket with RST: unsent bytes are dropped, and whoever waits on the socket is woken."""
        if not self._closed:
            with suppress(OSError):
                self.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    async def _write(self, view: memoryview) -> None:
        if self._shut:  # while we waited for the lock
            return
        try:
            await (self._write_plain(view) if self._tls is None else self._write_tls(self._tls, view))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # The client is lost, or another task has reset it. Closing wakes the reader, who tells the application.
            self.reset()

    async def _write_plain(self, view: memoryview) -> None:
        while view:
            sent = await self.socket.send(view[:PLAIN_PIECE])
            view = view[sent:]
            self._progressed()

    async def _write_tls(self, stream: trio.SSLStream[trio.SocketStream], view: memoryview) -> None:
        for start in range(0, len(view), TLS_PIECE):
            await stream.send_all(view[start : start + TLS_PIECE])
            self._progressed()

    @contextmanager
    def _patience(self) -> Iterator[trio.CancelScope]:
        """A shield with a deadline that moves with every progress, for the task that writes and those behind it."""
        with trio.CancelScope(shield=True, deadline=self._deadline()) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def _progressed(self) -> None:
        deadline = self._deadline()
        for scope in self._scopes:
            scope.deadline = deadline

    def _deadline(self) -> float:
        return min(trio.current_time() + self._timeout, self._last)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "shut" if self._shut else "open"
        return f"<Writer {state} {len(self._scopes)} writing>"
