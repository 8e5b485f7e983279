"""What was read of a connection and is not yet understood: a bounded backlog, and a look at whether the peer has left.

It never parses, and never touches a stream.
"""

from __future__ import annotations

import select
from collections import deque

import trio

MAX_READ = 64 * 1024
# What is understood before others get a turn: 64 KiB of the smallest chunks or frames took 80 ms, this takes 10.
MAX_PIECE = 8 * 1024
# Read ahead of a handler that is not receiving, so that the end of its client is seen behind some bytes; the rest waits
# in the kernel and slows the client down.
READ_AHEAD = 64 * 1024
# How often to look for the end of a client behind more bytes than that, in seconds.
LOOK_AGAIN = 0.5

_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Backlog:
    """Bytes between the task that reads and the task that understands, at most READ_AHEAD and one read."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._takers = trio.lowlevel.ParkingLot()
        self._givers = trio.lowlevel.ParkingLot()

    @property
    def full(self) -> bool:
        return self._size >= READ_AHEAD

    def add(self, data: bytes) -> None:
        """Add what was read. The caller waits for room first."""
        self._pieces.append(data)
        self._size += len(data)
        self._takers.unpark()

    def end(self) -> None:
        """Nothing more comes; what is here can still be taken."""
        self._over = True
        self._takers.unpark_all()

    async def wait_room(self) -> None:
        while self.full:
            await self._givers.park()

    async def take(self) -> bytes | None:
        """Wait for the next piece and return it; None after the last."""
        while not self._pieces:
            if self._over:
                return None
            await self._takers.park()
        data = self._pieces.popleft()
        self._size -= len(data)
        self._givers.unpark_all()
        return data

    def __repr__(self) -> str:
        return f"<Backlog {self._size} bytes{', over' if self._over else ''}>"


def has_more(descriptor: int) -> bool:
    """Say whether there is something to read, be it the peer's end. Does not wait."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def has_left(descriptor: int) -> bool:
    """Say whether the peer has shut or reset its side, however many of its bytes are unread here. Does not wait.

    A FIN behind bytes that our kernel has no room for is still on the other side, and cannot be seen by anybody.
    """
    poll = select.poll()
    poll.register(descriptor, _LEFT)
    return bool(poll.poll(0))
