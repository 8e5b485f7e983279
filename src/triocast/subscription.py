"""One client's cursor into one group's log.

It copies nothing and awaits nothing: the group says when there is more, the connection takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from triocast.core.log import Entry, last_of
from triocast.core.overflow import Evict, Skip, judge
from triocast.core.wire import Format
from triocast.errors import TOO_SLOW, Close

if TYPE_CHECKING:
    from triocast.group import Group


class Outlet(Protocol):
    """A socket that the broadcaster may write frames to directly, while it is `ready`."""

    ready: bool  # nothing is being written, no Close frame is out, the socket is open
    send: Callable[[bytes], int]  # returns how many bytes the kernel took; raises OSError, BlockingIOError for none

    def keep(self, rest: memoryview) -> None:
        """Keep the rest of a frame that was taken in part; it goes out before anything else."""

    def lose(self) -> None:
        """The socket is broken: close it; whoever reads learns of it."""


class Follower(Protocol):
    """Whoever owns subscriptions: a connection."""

    format: Format  # how its client is written to
    outlet: Outlet | None  # the direct way to its client, where there is one

    def wake(self, subscription: Subscription) -> None:
        """Take note that the subscription has something to take; called once until it is parked again."""

    def end(self, close: Close) -> None:
        """End the connection, telling its client why; later calls change nothing."""


class Subscription:
    """A member of a group: `cursor` is the offset up to which everything was given.

    It is either parked (caught up and waiting in the group) or in its follower's hands.
    """

    __slots__ = ("active", "cursor", "follower", "group", "missed")

    def __init__(self, group: Group, follower: Follower) -> None:
        self.group = group
        self.follower = follower
        self.cursor = group.log.top
        self.active = True
        self.missed = 0  # messages this subscriber was not given, for publisher and operator to see

    def __repr__(self) -> str:
        state = f"{self.behind} behind" if self.active else "left"
        return f"<Subscription {self.group.name!r} at {self.cursor}, {state}>"

    @property
    def behind(self) -> int:
        """How many messages have not been taken yet."""
        return self.group.log.top - self.cursor

    def take(self, budget: int) -> list[Entry]:
        """Return what comes next, at most `budget` bytes or one message, and move the cursor past it.

        A gap comes in its place, before what follows it. Empty when there is nothing more, or when the group's
        policy has just ended the follower.
        """
        if not self.active:
            return []
        log = self.group.log
        match judge(self.group.policy, self.group.name, self.cursor, log):
            case Skip(gap):
                self.cursor = gap.last
                self._count_missed(gap.count)
                return [gap]
            case Evict(behind):
                self.evict(behind)
                return []
            case None:
                entries = log.read(self.cursor, budget)
                if entries:
                    self.cursor = last_of(entries[-1])
                return entries

    def settle(self) -> bool:
        """Park if everything was taken; otherwise return False and stay in the follower's hands."""
        if self.active and self.cursor < self.group.log.top:
            return False
        if self.active:
            self.group.park(self)
        return True

    def evict(self, behind: int) -> None:
        """End the follower because it was `behind` messages behind, more than the group allows."""
        self.group.evicted += 1
        reason = f"too slow: {behind} messages behind in {self.group.name}; come back"
        self.follower.end(TOO_SLOW.because(reason))

    def _count_missed(self, count: int) -> None:
        self.missed += count
        self.group.dropped += count
