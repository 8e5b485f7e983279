"""A group as this process sees it: its log, its members, and the broadcaster that feeds both.

It writes to no client and awaits none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from triocast.core.log import Bounds, Entry, GroupLog, first_of, last_of
from triocast.core.message import Gap, GapReason, Message, Position, Receipt
from triocast.core.overflow import Evict, Policy, judge, would_fall_off
from triocast.engines import Audience, Engine
from triocast.errors import CRASHED, RESTART, EngineUnavailable
from triocast.gate import Gate
from triocast.gatherer import Gatherer
from triocast.inbox import Inbox, Item, Recall, Renewal
from triocast.lanes import Lanes
from triocast.meters import Meters
from triocast.pins import Pins
from triocast.receipts import Receipts
from triocast.settings import GroupSettings
from triocast.source import Source
from triocast.subscription import Follower, Subscription
from triocast.watchers import Watch, Watchers

WRITE_BUDGET = 64 * 1024  # bytes given to a member in one write; a control frame waits for no more than this
FETCH = 256  # messages fetched at once to fill a hole

logger = logging.getLogger("triocast.group")


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """What `/groups/<group>` shows: who is there, and the position.

    `behind` members have not taken everything, the furthest of them is at `lag` messages; `dropped` messages were not
    given to somebody and `evicted` members were closed for lagging, since the group has members here.

    With an engine that knows other processes `subscribers` and `behind` are sums of what each of the `processes` has
    reported, at most a second ago, and `approximate`; `lag`, `dropped` and `evicted` are this process's alone.
    """

    group: str
    subscribers: int
    epoch: str
    offset: int
    behind: int
    policy: str
    lag: int = 0
    dropped: int = 0
    evicted: int = 0
    approximate: bool = False
    processes: Mapping[str, Audience] | None = None


class Group:
    """A group while it has members here. The hub opens it for the first and retires it after the last."""

    def __init__(
        self,
        name: str,
        settings: GroupSettings,
        engine: Engine,
        pins: Pins,
        meters: Meters,
        arouse: Callable[[Watchers], None],
    ) -> None:
        self.name = name
        self.pins = pins
        self.meters = meters
        self.traffic = meters.of(name)
        self.policy: Policy = settings.policy
        self.log: GroupLog  # from the moment that `opened` is set
        self.opened = trio.Event()
        self.ended = False
        self.failure: Exception | None = None
        self.joining = 0
        self.dropped = 0
        self.evicted = 0
        self.gate = Gate(settings.block_timeout)
        self.source = Source(engine, name, settings)
        self._bounds = Bounds(settings.max_lag, settings.max_lag_bytes)
        self._engine = engine
        self._inbox = Inbox(settings.inbox)
        self._gatherer = Gatherer(self._inbox)
        self._receipts = Receipts(self._inbox, at_once=engine.at_once)
        self._members: dict[str, Subscription] = {}  # by the id of their connection
        self._lanes: Lanes[Subscription] = Lanes()
        self._fresh: list[Entry] = []  # appended to the log, not yet given to anybody
        self._fresh_weight = 0
        self._round_count = max(1, settings.max_lag // 4)
        self._watchers: Watchers | None = None  # who asks for presence; most groups have none
        self._arouse = arouse
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        if not self.opened.is_set():
            return f"<Group {self.name!r} opening>"
        if self.failure is not None or not hasattr(self, "log"):
            return f"<Group {self.name!r} failed>"
        return f"<Group {self.name!r} {len(self._members)} subscribers, at {self.log.top}, {self.behind} behind>"

    @property
    def subscribers(self) -> int:
        """How many members there are."""
        return len(self._members)

    @property
    def watching(self) -> int:
        """How many members are told who comes and goes."""
        return 0 if self._watchers is None else len(self._watchers)

    @property
    def behind(self) -> int:
        """How many members have not taken everything, or are still writing it."""
        return len(self._lanes.busy)

    @property
    def unused(self) -> bool:
        """Whether nobody is in the group or on the way in."""
        return not self._members and not self.joining

    def info(self) -> GroupInfo:
        """Describe the group as it is now."""
        log = self.log
        return GroupInfo(
            self.name,
            self.subscribers,
            log.epoch,
            log.top,
            self.behind,
            self.policy.value,
            self.slowest,
            self.dropped,
            self.evicted,
        )

    @property
    def slowest(self) -> int:
        """How many messages the furthest member is behind."""
        return max((each.behind for each in self._lanes.busy), default=0)

    @property
    def waiting(self) -> int:
        """How many messages wait for the broadcaster."""
        return len(self._inbox)

    def has_room_for(self, weight: int) -> bool:
        """Whether one message more, with all that is on its way to the log, makes nobody lag too far.

        Who is parked may take nothing of that either.
        """
        if self.ended:
            return True
        cursor = min((each.cursor for each in self._lanes.busy), default=self.log.top)
        count = self.log.top - cursor + self._inbox.count
        held = self.log.weight_after(cursor) + self._inbox.weight
        return count < self._bounds.count and (count == 0 or held + weight <= self._bounds.weight)

    def member(self, client: str) -> Subscription | None:
        """Return the membership of the connection with this id, if it has one."""
        return self._members.get(client)

    def join(self, follower: Follower, *, hold: bool = False) -> Subscription:
        """Make `follower` a member; it is given every message after the newest one there is now.

        With `hold` nothing is given until its follower is woken by whoever holds it.
        """
        subscription = Subscription(self, follower)
        self._members[follower.id] = subscription
        if hold:
            self._lanes.hold(subscription)
        elif follower.format.greets:  # not parked, or the broadcaster would write before the greeting
            self._lanes.hand_over(subscription)
        else:
            self._lanes.park(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a membership; nothing more is given to it. Harmless when it has ended already."""
        subscription.active = False
        subscription.outlet = None  # a round under way may still come to it
        subscription.thaw()
        if self._members.get(subscription.follower.id) is subscription:
            del self._members[subscription.follower.id]
        self._lanes.remove(subscription)
        self.gate.progressed()

    def watch(self, follower: Follower) -> Watch:
        """Tell a member who comes and who goes, once it wakes its watch and until that is ended."""
        if self._watchers is None:
            self._watchers = Watchers(self.name, self._inbox.notices, self._arouse)
        return self._watchers.add(follower)

    def park(self, subscription: Subscription) -> None:
        """Take back a subscription that is caught up; its follower is woken when there is more."""
        self._lanes.park(subscription)

    def retire(self) -> None:
        """End the group; for the hub, once it is unused."""
        self.ended = True
        self._scope.cancel()

    async def run(self, forget: Callable[[Group], None]) -> None:
        """Broadcast until retired. Whatever fails ends this group's members with 1011, and nothing else.

        `forget` is called, once, when the group takes no more members.
        """
        try:
            with self._scope:
                async with self._engine.subscribe(self.name, self._inbox) as start:
                    self.log = self._log_from(start)
                    self.opened.set()
                    while True:
                        items = await self._gatherer.gather()
                        since = self._inbox.waited_since()
                        began = trio.current_time()
                        await self._broadcast(items)
                        self._inbox.done(items)
                        self.gate.progressed()
                        ended = trio.current_time()
                        self._gatherer.last_round = ended - began
                        self.meters.round(self._gatherer.last_round, [ended - each for each in since])
        except EngineUnavailable as error:
            logger.warning("group can't be opened: %s", error, extra={"group": self.name})
            self.failure = error
        except Exception as error:
            logger.exception("group failed; its members are closed", extra={"group": self.name})
            self.failure = error
        finally:
            self.ended = True
            forget(self)
            self._end()

    async def receipt(self, position: Position) -> Receipt:
        """Wait until the message at `position` is in the log, and say who was there just before.

        Cancelled, the message is published all the same.
        """
        offset = position.offset
        if not self.opened.is_set() or self.ended or self.log.top >= offset or self.log.epoch != position.epoch:
            await trio.lowlevel.checkpoint()
            return self._receipt(position, self.subscribers, self.behind)
        return self._receipt(position, *await self._receipts.wait(offset))

    async def _broadcast(self, items: list[Item]) -> None:
        """Put all that waits into the log, and give it to the members a write's worth at a time.

        Not all at once: a round larger than a member may lag would make laggards of those who keep up.
        """
        for item in items:
            if isinstance(item, Recall):
                await self._fetch_until(item.offset)
            elif isinstance(item, Renewal):
                await self._begin_anew(item.position)
            elif item.epoch != self.log.epoch:
                pass  # of one that is over, or will be told of: then what members need of it is recovered
            elif item.offset > self.log.top:
                await self._fetch_until(item.offset - 1)
                if self.log.top == item.offset - 1:  # else the engine is in a new epoch already
                    await self._append(item)
        await self._serve()

    async def _fetch_until(self, offset: int) -> None:
        """Fill the hole between the log's top and `offset` from history; what is gone from there becomes a gap."""
        while self.log.top < offset:
            await self._serve()  # what is in the log already does not wait for the engine
            page = await self.source.fetch(self.log.top, min(FETCH, offset - self.log.top))
            if page.position.epoch != self.log.epoch:
                return  # it has begun a new one, of which we are about to be told
            wanted = [message for message in page.messages if message.offset <= offset]
            for message in wanted:
                await self._append_gap(message.offset - 1)
                await self._append(message)
            if not wanted:
                await self._append_gap(offset)

    async def _begin_anew(self, position: Position) -> None:
        """Tell every member that the epoch is new, and give it what the engine keeps of that."""
        await self._serve()
        old = self.log
        if position.epoch == old.epoch:
            return
        fresh = await self.source.plan_patiently(old.position, position)
        # From here on in one step: no member may read the new log with a cursor of the old one.
        self.log = self._log_from(position)
        self._receipts.resolve_all(self.subscribers, self.behind)
        for subscription in list(self._members.values()):
            subscription.renew(old, fresh)
            self._lanes.remove(subscription)
            self._lanes.hand_over(subscription)
        logger.warning("a group began a new epoch", extra={"group": self.name, "from": old.epoch, "to": position.epoch})

    def _log_from(self, start: Position) -> GroupLog:
        return GroupLog(start, self._bounds, keyed=self.policy is Policy.LATEST)

    async def _append_gap(self, last: int) -> None:
        if last > self.log.top:
            await self._append(Gap(self.name, self.log.epoch, self.log.top + 1, last, GapReason.LOST))

    async def _append(self, entry: Entry) -> None:
        if self._fresh and (self._fresh_weight + entry.weight > WRITE_BUDGET or len(self._fresh) >= self._round_count):
            await self._serve()
        if self.policy is Policy.DROP_NEWEST:
            self._freeze_laggards(entry)
        subscribers, behind = self.subscribers, self.behind
        self.log.append(entry, trio.current_time())
        self._fresh.append(entry)
        self._fresh_weight += entry.weight
        self._receipts.resolve(entry, subscribers, behind)

    async def _serve(self) -> None:
        """Give what was appended since the last time to everybody who was caught up then."""
        entries, self._fresh, self._fresh_weight = self._fresh, [], 0
        if entries:
            self._set_aside_excluded(entries)
            served = await self._lanes.serve(first_of(entries[0]) - 1, last_of(entries[-1]), entries)
            self.traffic.deliver(entries, served)
            self._evict_laggards()

    def _set_aside_excluded(self, entries: list[Entry]) -> None:
        """Whoever a message excludes is told so by its own task: a round has the same bytes for everybody."""
        for entry in entries:
            if isinstance(entry, Message) and entry.exclude in self._members:
                self._lanes.set_aside(self._members[entry.exclude])

    def _evict_laggards(self) -> None:
        """Without waiting for their sockets: who does not read would never be judged otherwise."""
        if self.policy is Policy.DISCONNECT:
            for subscription in list(self._lanes.busy):
                verdict = judge(self.policy, self.name, subscription.cursor, self.log)
                if isinstance(verdict, Evict):
                    self.leave(subscription)
                    subscription.evict(verdict.behind)

    def _freeze_laggards(self, entry: Entry) -> None:
        for subscription in list(self._lanes.busy):
            if subscription.frozen is None and would_fall_off(subscription.cursor, self.log, entry):
                subscription.freeze(self.pins)

    def _end(self) -> None:
        self._inbox.close()
        self.gate.progressed()
        self.opened.set()
        self._receipts.resolve_all(self.subscribers, self.behind)
        for subscription in list(self._members.values()):
            self.leave(subscription)
            subscription.follower.end(RESTART if self.failure is None else CRASHED)

    def _receipt(self, position: Position, subscribers: int, behind: int) -> Receipt:
        return Receipt(self.name, position.epoch, position.offset, subscribers, behind)
