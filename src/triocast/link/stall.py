"""Tells a peer that is slow from one that takes nothing, while a write waits for room.

It never waits, writes or looks at a clock: the writer does, and says what it sees.
"""

from __future__ import annotations

import fcntl
import sys
import termios

import trio

# Looks at the kernel's queue in one timeout. The first is late enough for what was on its way to have arrived, and a
# peer that stops is given up on at most an eighth of the timeout late.
LOOKS = 8


class Stall:
    """One wait for room; all times are seconds, `queue` is in bytes, None where the kernel does not tell.

    A kernel says that there is room only once much of what it holds is gone: a third of its buffer, of a Unix socket's
    three quarters. Until then all that is seen of a slow peer is that the queue of what it has not taken gets shorter.
    """

    __slots__ = ("_moved", "_queue", "_timeout", "due")

    def __init__(self, timeout: float, now: float, queue: int | None) -> None:
        self._timeout = timeout
        self._moved = now
        self._queue = queue
        self.due = self._next_after(now)
        """When to look again, if there is no room until then."""

    def is_over(self, now: float, queue: int | None) -> bool:
        """Say whether nothing has moved for the timeout, and set `due` anew if something has."""
        if queue is not None and self._queue is not None and queue < self._queue:
            self._moved = now
        self._queue = queue
        self.due = self._next_after(now)
        return now >= self._moved + self._timeout

    def _next_after(self, now: float) -> float:
        last = self._moved + self._timeout
        return last if self._queue is None else min(now + self._timeout / LOOKS, last)

    def __repr__(self) -> str:
        return f"<Stall since {self._moved}, {self._queue} bytes queued>"


def unacknowledged(sock: trio.socket.SocketType) -> int | None:
    """Return how many bytes written to an open socket its peer has not taken; None where the kernel does not tell."""
    try:
        # Linux gives SIOCOUTQ the number of TIOCOUTQ (tcp(7), unix(7)); elsewhere sockets do not know it.
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return None
    return int.from_bytes(answer, sys.byteorder)
