"""The heartbeat of one client: when to ping a peer that is silent, and when to give it up for gone.

It never reads, writes or looks at a clock: the link does what it says, and says what time it is.
"""

from __future__ import annotations

import random
from enum import Enum

from triocast.core.wire.sse import COMMENT, chunk

PING = b"\x89\x00"
"""A whole Ping frame without payload; any byte that comes in afterwards is as good an answer as its Pong."""

COMMENT_CHUNK = chunk(COMMENT)
"""What an event stream has for a ping. Nobody answers it; its bytes are acknowledged, which the kernel sees to."""

# Part of the interval by which a ping may come early, at random: ten thousand clients that connected at once, after a
# restart, would otherwise be pinged at once for as long as they are silent, and hold up the event loop each time.
EARLY = 0.25


class Beat(Enum):
    """What to do now."""

    REST = "rest"  # nothing, until `due`
    PING = "ping"  # write a ping, then nothing until `due`
    LOST = "lost"  # give the peer up


class Heartbeat:
    """The ping clock of one peer; `interval`, `timeout` and all times are seconds. `sign` is what is sent to it; with a
    `timeout` of None no answer is expected.

    Whoever reads keeps `heard`, the time of the last byte, up to date. At the time `due` somebody asks `judge`.
    """

    __slots__ = ("_awaited_since", "_interval", "_timeout", "due", "heard", "sign")

    def __init__(self, interval: float, timeout: float | None, now: float, sign: bytes = PING) -> None:
        self._interval = interval
        self._timeout = timeout
        self._awaited_since: float | None = None  # when the ping was sent that is not answered
        self.heard = now
        self.sign = sign
        self.due = self._next_after(now)

    def judge(self, now: float, *, resting: bool) -> Beat:
        """Say what to do at the time `now`, and set `due` to when to ask again.

        `resting` says that silence means nothing at the moment: a write is pending, which has a deadline of its own, or
        the peer has sent what nobody has read yet.
        """
        awaited, self._awaited_since = self._awaited_since, None
        if resting:
            self.due = self._next_after(now)
            return Beat.REST
        if self._timeout is None:
            self.due = self._next_after(now)
            return Beat.PING
        if awaited is not None and self.heard < awaited:
            return Beat.LOST
        if now - self.heard < self._interval * (1 - EARLY):
            self.due = self._next_after(self.heard)
            return Beat.REST
        self._awaited_since = now
        self.due = now + self._timeout
        return Beat.PING

    def _next_after(self, moment: float) -> float:
        return moment + self._interval * (1 - EARLY * random.random())  # noqa: S311 - no secret, only a spread

    def __repr__(self) -> str:
        return f"<Heartbeat {'waiting for an answer' if self._awaited_since is not None else 'at rest'}>"
