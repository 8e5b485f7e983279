"""What one client has sent and its handler has not taken: a queue bounded by messages and by bytes.

The connection's reader puts, the handler takes; nothing is dropped, the reader waits.
"""

from __future__ import annotations

import trio

from triocast.bell import Bell


def size_of(data: str | bytes) -> int:
    """Return what a payload counts in bytes; text counts as UTF-8 does."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


class Inbound:
    """One client's queue. It holds at most `max_messages` and `max_bytes`, and always room for one message."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._queue: list[tuple[str | bytes, int]] = []  # short, and an empty deque takes 700 bytes
        self._bytes = 0
        self._ended = False
        self._space = Bell()
        self._data = trio.lowlevel.ParkingLot()
        self.used = False  # whether the handler has ever asked for a message

    def __len__(self) -> int:
        return len(self._queue)

    def __repr__(self) -> str:
        return f"<Inbound {len(self)} messages, {self._bytes} bytes{', ended' if self._ended else ''}>"

    def put_nowait(self, data: str | bytes) -> bool:
        """Add a message if there is room for it; returns whether there was."""
        size = size_of(data)
        if self._queue and not self._fits(size):
            return False
        self._queue.append((data, size))
        self._bytes += size
        self._data.unpark()
        return True

    async def put(self, data: str | bytes) -> None:
        """Add a message, waiting for room. Cancelled, it was not added."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.put_nowait(data):
            await self._space.wait()

    async def get(self) -> str | bytes:
        """Return the oldest message, waiting for one; other tasks get their turn once there is none. Raises
        `trio.EndOfChannel` after the last."""
        self.used = True
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._queue:
            if self._ended:
                raise trio.EndOfChannel
            await self._data.park()
        data, size = self._queue.pop(0)
        self._bytes -= size
        self._space.ring()
        return data

    def end(self) -> None:
        """Say that nothing more comes; what is there can still be taken."""
        self._ended = True
        self._data.unpark_all()

    def _fits(self, size: int) -> bool:
        return len(self._queue) < self._max_messages and self._bytes + size <= self._max_bytes
