"""Those members of a group who want to know who is there: a cursor each into the group's second log.

It knows no messages, and writes only as a broadcaster does: to sockets that take it at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf

from triocast.core.presence_log import PresenceLog
from triocast.core.wire import Presence
from triocast.errors import Close
from triocast.lanes import Lanes
from triocast.notices import Notices
from triocast.subscription import Follower

# Events told at once, half of what the log keeps of the largest: who has a task of its own to write them keeps up.
AT_ONCE = 2


class Watch:
    """One member that watches: `cursor` is the number up to which it was told everything."""

    __slots__ = ("_watchers", "active", "cursor", "follower", "outlet")

    def __init__(self, watchers: Watchers, follower: Follower) -> None:
        self._watchers = watchers
        self.follower = follower
        self.outlet = follower.outlet
        self.cursor = -1  # behind the log, wherever that is: it begins by asking
        self.active = True

    def __repr__(self) -> str:
        return f"<Watch {self._watchers.group!r} at {self.cursor}{'' if self.active else ', over'}>"

    def take(self) -> list[Presence]:
        """Return what comes next, one write at most, and move the cursor past it."""
        if not self.active:
            return []
        events, self.cursor = self._watchers.log.read(self._watchers.group, self.cursor)
        return events

    def end(self) -> None:
        """Tell nothing more; harmless if it is over already."""
        self._watchers.remove(self)

    def settle(self) -> bool:
        """Park if everything was taken; otherwise return False and stay in the follower's hands."""
        if self.active and self.cursor < self._watchers.log.top:
            return False
        if self.active:
            self._watchers.park(self)
        return True


class Watchers:
    """All of one group. `arouse` is called when there is something to tell, which `tell` then does."""

    def __init__(self, group: str, notices: Notices, arouse: Callable[[Watchers], None]) -> None:
        self.group = group
        self.notices = notices
        self._arouse = arouse
        self.log = PresenceLog()
        self._watches: dict[Watch, None] = {}
        self._lanes: Lanes[Watch] = Lanes(gentle=True)
        self._coming: deque[Presence] = deque()  # what was gathered and is not told yet
        self._telling = False  # not everybody may have come to the newest event

    def __len__(self) -> int:
        return len(self._watches)

    def __repr__(self) -> str:
        return f"<Watchers of {self.group!r}, {len(self)}, {self.notices!r}>"

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._coming) or self.notices.waiting

    @property
    def due(self) -> float:
        """When it is to be told; what was begun, at once."""
        return -inf if self._coming else self.notices.due

    def add(self, follower: Follower) -> Watch:
        """Tell `follower` from the moment that it wakes the watch; first of all to ask who is there."""
        watch = Watch(self, follower)
        self._watches[watch] = None
        self.notices.arouse = partial(self._arouse, self)
        self._lanes.hold(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        """Tell it nothing more; harmless if it is over already."""
        watch.active = False
        watch.outlet = None  # a round under way may still come to it
        self._watches.pop(watch, None)
        self._lanes.remove(watch)
        self._let_go()
        if not self._watches:
            self.notices.arouse = None  # nor does it keep us any more
            self.notices.forget()
            self._coming.clear()

    def end(self, close: Close) -> None:
        """Close everybody who watches."""
        for watch in list(self._watches):
            self.remove(watch)
            watch.follower.end(close)

    def park(self, watch: Watch) -> None:
        """Take back one that was told everything."""
        self._lanes.park(watch)
        self._let_go()

    async def tell(self) -> None:
        """Tell what was gathered, at most two events of it, giving others a turn every few milliseconds; awaits no
        client. To be called again while it is `waiting`."""
        if not self._coming:
            self._coming.extend(self.notices.take(self.group))
        for _ in range(min(AT_ONCE, len(self._coming))):
            if self._coming:  # else the last watcher has left meanwhile
                await self._tell(self._coming.popleft())

    async def _tell(self, event: Presence) -> None:
        self._telling = True
        try:
            start = self.log.top
            self.log.append(event)
            await self._lanes.serve(start, self.log.top, [event])
        finally:
            self._telling = False
            self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of what everybody has been told: there may be very many groups."""
        if not self._lanes.busy and not self._telling:
            self.log.clear()
