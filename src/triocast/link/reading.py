"""What was read of a connection and is not yet understood: a bounded backlog, and a look at whether the peer has left.

It never parses, and never touches a stream.
"""

from __future__ import annotations

import select

from triocast.bell import Bell

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
        self._pieces: list[bytes] = []  # not a deque: an empty one takes 700 bytes
        self._size = 0
        self._over = False
        self._deaf = False
        self._arrival = Bell()  # for the task that understands
        self._room = Bell()  # for the task that reads

    @property
    def full(self) -> bool:
        return self._size >= READ_AHEAD

    def add(self, data: bytes) -> None:
        """Add what was read. The caller waits for room first."""
        if self._deaf:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._arrival.ring()

    def end(self) -> None:
        """Nothing more comes; what is here can still be taken."""
        self._over = True
        self._arrival.ring()

    def discard(self) -> None:
        """Keep nothing any more, of what is here and of what will be added."""
        self._deaf = True
        self._pieces, self._size = [], 0
        self._room.ring()

    async def wait_room(self) -> None:
        while self.full:
            await self._room.wait()

    async def take(self) -> bytes | None:
        """Wait for something and return all there is; None after the last."""
        while not self._pieces:
            if self._over:
                return None
            await self._arrival.wait()
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._room.ring()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

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
