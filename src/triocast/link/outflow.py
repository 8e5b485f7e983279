"""What one HTTP/2 stream has to send: bounded, with a deadline for a client that opens no window.

It never sends: the connection's sending task takes from it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

# Two frames of the size that every peer takes (RFC 9113, 4.2): one on its way, one ready.
HIGH_WATER = 2 * 16 * 1024


class StreamStalled(Exception):
    """The client opened no window to this stream for `write_timeout`; the stream is reset, the connection lives."""


class Outflow:
    """The unsent bytes of one response; `timeout` is in seconds and runs while none are taken.

    `shut` says whether it is the client's window that keeps them here. If not, it is the connection that is slow: its
    writer has a deadline of its own, and knows more.
    """

    def __init__(self, timeout: float, shut: Callable[[], bool]) -> None:
        self._bytes = bytearray()
        self._timeout = timeout
        self._shut = shut
        self._moved = trio.Event()
        self._complete = False
        self._done = False

    @property
    def complete(self) -> bool:
        """True once the response is whole and all of it is taken: the stream can be ended."""
        return self._complete and not self._bytes

    async def wait_room(self) -> None:
        """Wait until another piece may be added. Raises StreamStalled."""
        await self._wait(lambda: len(self._bytes) < HIGH_WATER)

    def add(self, data: memoryview) -> None:
        if not self._done:
            self._bytes += data

    def set_complete(self) -> None:
        self._complete = True

    async def wait_empty(self) -> None:
        """Wait until all that was added is taken. Raises StreamStalled."""
        await self._wait(lambda: not self._bytes)

    async def drain(self) -> None:
        """Wait until all is taken and the stream ended. Raises StreamStalled."""
        await self._wait(lambda: self._done)

    def take(self, size: int) -> bytes:
        """Take at most `size` bytes to send."""
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        if data:
            self._move()
        return data

    def close(self) -> None:
        """The stream is over: drop what is left and let go whoever waits."""
        self._bytes = bytearray()
        self._done = self._complete = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _wait(self, ready: Callable[[], bool]) -> None:
        while not self._done and not ready():
            with trio.move_on_after(self._timeout) as scope:
                await self._moved.wait()
            if scope.cancelled_caught and self._shut():
                raise StreamStalled

    def __repr__(self) -> str:
        return f"<Outflow {len(self._bytes)} bytes{', complete' if self._complete else ''}>"
