"""The groups that one client is in: joining, leaving, being taken out; and its watches, if it asks for presence.

It keeps nothing of the client's connection, which would keep it, too; and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from triocast.core.message import Position
from triocast.core.presence import Reason
from triocast.core.recovery import Wish
from triocast.core.wire import Joined
from triocast.errors import Close, ConnectionEnded, PresenceOff, TooManyGroups
from triocast.hub import Hub
from triocast.outbound import Outbound
from triocast.roster import Client
from triocast.subscription import Subscription
from triocast.watchers import Watch


class _Joining:
    """Where a subscription will be once its join is through, unless the group is left before."""

    __slots__ = ()


class Memberships:
    """One client's. With `presence`, which needs a format that greets, it is told who comes and who goes."""

    __slots__ = ("_hub", "_outbound", "_places", "_watches")

    def __init__(self, hub: Hub, outbound: Outbound, *, presence: bool) -> None:
        self._hub = hub
        self._outbound = outbound
        self._places: dict[str, Subscription | _Joining] = {}  # by group, in the order of joining
        self._watches: dict[str, Watch] | None = {} if presence else None  # by group

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Subscription]:
        """Give those that are through, in the order of joining."""
        return (place for place in self._places.values() if isinstance(place, Subscription))

    def __repr__(self) -> str:
        return f"<Memberships in {', '.join(self._places) or 'no group'}>"

    @property
    def starts(self) -> list[Position]:
        """Where each begins."""
        return [Position(each.group.log.epoch, each.start) for each in self]

    @property
    def behind(self) -> bool:
        """Whether there is something for the client that it was not given yet."""
        return any(each.recovery is not None or each.behind for each in self)

    async def join(self, client: Client, name: str, wish: Wish | None) -> None:
        """Make `client` a member of a group; see `Connection.join`."""
        if name in self._places:
            await trio.lowlevel.checkpoint()
            return
        self._check(client, name)
        joining = self._places[name] = _Joining()
        wish = wish or self._hub.beginning_of(name)
        try:
            subscription = await self._hub.join(name, client, wish)
        except BaseException:
            if self._places.get(name) is joining:
                del self._places[name]
            raise
        # Meanwhile the client may have gone, or the group been left again, and perhaps joined anew.
        if self._places.get(name) is not joining:
            self._end(subscription)  # and no watch: one that is there by now is of the one joined anew
            _check_open(client)
        else:
            self._places[name] = subscription
            if client.format.greets:
                self._greet(client, subscription)
            if wish is not None:
                client.wake(subscription)

    def leave(self, name: str) -> None:
        """Leave a group, and tell the client so if its format can say it. Harmless if it is no member."""
        place = self._places.pop(name, None)
        if isinstance(place, Subscription):
            self._outbound.part(place)
            self._end_through(place)

    def remove(self, name: str, close: Close) -> bool | None:
        """Leave a group and tell the client why; whether it was in it, or about to be. None if it can't be told."""
        place = self._places.get(name)
        if place is None:
            return False
        if not isinstance(place, Subscription) or not self._outbound.part(place, close):
            return None
        del self._places[name]
        self._end_through(place, Reason.REMOVED)
        return True

    def leave_all(self, reason: Reason) -> None:
        """Leave every group, saying nothing; joins that are not through will not be."""
        while self._places:
            _, place = self._places.popitem()
            if isinstance(place, Subscription):
                self._end_through(place, reason)

    def _check(self, client: Client, name: str) -> None:
        limit = self._hub.settings.max_groups_per_connection
        if len(self._places) >= limit:
            raise TooManyGroups(f"one connection may be in {limit} groups (max_groups_per_connection)")
        if self._watches is not None and not self._hub.settings.for_group(name).presence:
            raise PresenceOff(name)
        _check_open(client)

    def _greet(self, client: Client, subscription: Subscription) -> None:
        group = subscription.group
        watch = None
        if self._watches is not None:
            watch = self._watches[group.name] = group.watch(client)
        greeting = Joined(group.name, group.log.epoch, subscription.start, group.policy.value, client.id)
        self._outbound.greet(subscription, greeting, watch)

    def _end_through(self, subscription: Subscription, reason: Reason = Reason.LEFT) -> None:
        """End one whose join was through, which has the group's watch, if there is one."""
        watch = self._watches.pop(subscription.group.name, None) if self._watches else None
        if watch is not None:
            self._outbound.forget(watch)
            watch.end()
        self._end(subscription, reason)

    def _end(self, subscription: Subscription, reason: Reason = Reason.LEFT) -> None:
        self._outbound.forget(subscription)
        self._hub.leave(subscription, reason)


def _check_open(client: Client) -> None:
    if client.ended:
        raise ConnectionEnded(f"connection {client.id} is over")
