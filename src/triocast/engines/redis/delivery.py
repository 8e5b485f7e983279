"""The groups that have members in this process, and which server's feed each of them is on.

It reads no message: that is between a group's follow and its feed.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from triocast.core.message import Position
from triocast.engines.redis.feed import Feed, Heard
from triocast.engines.redis.follow import Follow
from triocast.engines.redis.keys import Keys
from triocast.engines.redis.routing import Router
from triocast.engines.redis.store import Store
from triocast.engines.redis.wire import Wire
from triocast.errors import EngineUnavailable
from triocast.inbox import Inbox

TURNS = 6  # times an answer's time that a group waits for its turn behind others, while the server is there


class Delivery:
    """Keeps every group on the feed of the server that has it, and what is `always` heard. `run` it; groups may come
    and go before that."""

    def __init__(self, router: Router, store: Store, keys: Keys, timeout: float, always: Sequence[Heard] = ()) -> None:
        self._router = router
        self._store = store
        self._keys = keys
        self._timeout = timeout
        self._always = always
        self._follows: dict[str, Follow] = {}
        self._feeds: dict[Wire, Feed] = {}
        self._scopes: dict[Wire, trio.CancelScope] = {}
        self._places: dict[Heard, Feed] = {}

    @property
    def unsubscribed(self) -> int:
        """How many groups do not hear at the moment what is published, and did before."""
        return sum(follow.ready.is_set() and not follow.live for follow in self._follows.values())

    def inbox_of(self, group: str) -> Inbox | None:
        """Return where the group's messages go, if it has members here."""
        follow = self._follows.get(group)
        return None if follow is None else follow.inbox

    async def run(self) -> None:
        """Keep a feed to each server until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._router.changed
                self._keep_feeds(nursery)
                for heard in [*self._always, *self._follows.values()]:
                    self._place(heard)
                await changed.wait()

    def follow(self, group: str, inbox: Inbox) -> Follow:
        """Begin to follow a group, in place of who followed it before."""
        before = self._follows.get(group)
        if before is not None:
            self._take_off(before)
        follow = self._follows[group] = Follow(group, self._keys.of(group), inbox)
        self._place(follow)
        return follow

    def leave(self, follow: Follow) -> None:
        """End it; a group that was begun again meanwhile stays."""
        if self._follows.get(follow.group) is follow:
            del self._follows[follow.group]
        self._take_off(follow)

    async def beginning(self, follow: Follow) -> Position:
        """Wait until everything is heard that is published from the returned position on.

        Raises what the server says, and `EngineUnavailable` when that can't be reached for as long as it has for an
        answer, or has answered for too long to others.
        """
        for _ in range(TURNS):
            with trio.move_on_after(self._timeout):
                await follow.ready.wait()
            feed = self._places.get(follow)
            if follow.ready.is_set() or feed is None or not feed.up or self._router.why:
                break
        if follow.failure is not None:
            raise follow.failure
        if not follow.ready.is_set():
            why = self._router.why or (feed.why if feed is not None and not feed.up else "it takes too long")
            raise EngineUnavailable(f"group {follow.group!r} can't be subscribed to: {why}")
        return follow.head

    def _keep_feeds(self, nursery: trio.Nursery) -> None:
        wires = self._router.wires
        for wire in set(self._feeds) - set(wires):
            del self._feeds[wire]
            self._scopes.pop(wire).cancel()
        for wire in wires:
            if wire not in self._feeds:
                feed = self._feeds[wire] = Feed(wire, self._store, self._router)
                scope = self._scopes[wire] = trio.CancelScope()
                nursery.start_soon(_run_in, scope, feed)

    def _place(self, heard: Heard) -> None:
        """Put it on the feed of the server that has it; none while that is not known."""
        wire = self._router.wire_of(heard.partition)
        feed = None if wire is None else self._feeds.get(wire)
        if feed is self._places.get(heard):
            return
        self._take_off(heard)
        if feed is not None:
            self._places[heard] = feed
            feed.add(heard)

    def _take_off(self, heard: Heard) -> None:
        feed = self._places.pop(heard, None)
        if feed is not None:
            feed.remove(heard)


async def _run_in(scope: trio.CancelScope, feed: Feed) -> None:
    with scope:
        await feed.run()
