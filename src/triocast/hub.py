"""The hub: from a group's name to the group, and the nursery in which groups live.

Its clients are on its roster; it writes to none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import trio

from triocast.core.message import Draft, Position, Receipt
from triocast.core.names import check_group_name, is_connection_id
from triocast.core.overflow import Policy
from triocast.core.presence import Change, Members, Reason
from triocast.core.recovery import Join, Newest, Wish
from triocast.core.steering import Order, Outcome
from triocast.engines import Audience, Engine, Published
from triocast.errors import EngineError, EngineUnavailable, NotRunning, PresenceOff, UnknownOutcome
from triocast.group import Group, GroupInfo
from triocast.history import PAGE, History, read_history
from triocast.hooks import Hooks
from triocast.idempotency import Once
from triocast.meters import Failure, Meters
from triocast.overview import Overview
from triocast.pins import Pins
from triocast.presence_rounds import PresenceRounds
from triocast.roster import Client, Roster
from triocast.settings import Settings
from triocast.steering import carry_out
from triocast.subscription import Follower, Subscription

COUNT_CHUNK = 1000  # groups counted between two turns of the event loop


class Hub:
    """Joins connections, groups and one engine. `run` it in a nursery; everything else needs it running."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.meters = Meters(settings.namespaces)
        self.roster = Roster(settings, alone=engine.process is None)
        self._groups: dict[str, Group] = {}
        self._overview = Overview(engine, settings, self._groups)
        self._nursery: trio.Nursery | None = None
        self._stopped = trio.Event()
        self._ended = trio.Event()
        self._pins = Pins(settings.pinned_bytes)
        self._once = Once(settings.idempotency_keys)
        self.hooks = Hooks(settings.hook_queue, settings.hook_timeout)
        self._rounds = PresenceRounds()

    def __repr__(self) -> str:
        state = "draining" if self.roster.draining else "running" if self.running else "not running"
        return f"<Hub {state}, {self.connections} connections, {len(self._groups)} groups>"

    @property
    def running(self) -> bool:
        """Whether groups can be used."""
        return self._nursery is not None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self.roster)

    @property
    def idempotency_keys(self) -> int:
        """How many idempotency keys are remembered here."""
        return len(self._once)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called or the task is cancelled; ready once `task_status.started()` is called."""
        self.roster.reopen()
        self.hooks.reopen()
        self._stopped = trio.Event()
        self._ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.engine.run, self)
                nursery.start_soon(self.roster.run)
                nursery.start_soon(self.hooks.run)
                nursery.start_soon(self._rounds.run)
                if not self.engine.remembers:
                    nursery.start_soon(self._once.run)
                self._nursery = nursery
                task_status.started()
                try:
                    await self._stopped.wait()
                finally:
                    self._nursery = None
                    self._ended.set()
                    self.hooks.hurry(self.settings.close_timeout)
                    nursery.cancel_scope.cancel()
        finally:  # a server that has stopped us cancels us, too: what happened at the end is told all the same
            await self.hooks.finish()

    def start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task of the application's around the hub, in the hub's nursery."""
        self._running().start_soon(task, *args)

    async def wait_ended(self) -> None:
        """Wait until `run` has ended, for whatever cause."""
        await self._ended.wait()

    def stop(self) -> None:
        """End `run`; connections that are left lose their groups."""
        self._stopped.set()

    def admit(self, client: Client) -> None:
        """Take in a connection. Raises as `Roster.admit` does, and `NotRunning`."""
        if not self.roster.draining:
            self._running()
        self.roster.admit(client)

    # Groups

    def beginning_of(self, name: str) -> Wish | None:
        """Return what the clients of a group begin with that have no wish of their own."""
        return Newest() if self.settings.for_group(name).join is Join.LAST else None

    async def join(self, name: str, follower: Follower, wish: Wish | None = None) -> Subscription:
        """Make `follower` a member of the group, which is opened if it is the first.

        With a `wish` it is given that before the live messages, which it is given from the moment of joining on: no
        gap between, and nothing twice. Raises `InvalidGroupName`, and `EngineError` if the engine can't be reached.
        Cancelled, nobody has joined.
        """
        check_group_name(name)
        group = self._groups.get(name) or self._open(name)
        group.joining += 1
        try:
            await group.opened.wait()
            if group.ended:
                kind = EngineUnavailable if isinstance(group.failure, EngineUnavailable) else EngineError
                raise kind(f"group {name!r} could not be joined") from group.failure
            subscription = group.join(follower, hold=wish is not None)
            if wish is not None:
                await self._recover(subscription, wish)
            if follower.member is not None:
                self.engine.enter(name, follower.member)
            return subscription
        finally:
            group.joining -= 1
            self._retire_unused(group)

    async def _recover(self, subscription: Subscription, wish: Wish) -> None:
        group = subscription.group
        try:
            recovery = await group.source.plan(wish, Position(group.log.epoch, subscription.cursor))
            while recovery.epoch != group.log.epoch:  # it began a new one meanwhile
                recovery = await group.source.plan(wish, Position(group.log.epoch, subscription.cursor))
        except BaseException:
            self.leave(subscription)  # an earlier join of the same client may have entered it meanwhile
            raise
        subscription.recover_with(recovery)

    def leave(self, subscription: Subscription, reason: Reason = Reason.LEFT) -> None:
        """End a membership; the last one ends its group."""
        group, client = subscription.group, subscription.follower.id
        group.leave(subscription)
        listed = subscription.follower.member is not None
        if listed and group.member(client) is None:  # else it left while it joined, and joined anew meanwhile
            self.engine.depart(group.name, client, reason)
        self._retire_unused(group)

    async def members(self, name: str, after: str | None, limit: int) -> Members:
        """Return a page of a group's members, those of all processes. Raises `InvalidGroupName`, `PresenceOff` and
        `EngineError`."""
        check_group_name(name)
        self._running()
        if not self.settings.for_group(name).presence:
            raise PresenceOff(name)
        return await self.engine.members(name, after, limit)

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        """Have the application's hooks called."""
        self.hooks.noticed(group, changes, occupied=occupied, vacated=vacated)

    async def publish(self, name: str, draft: Draft) -> Receipt:
        """Publish to the group and return the receipt once its members here are being told; with an engine that knows
        other processes, once it has the message.

        While the group's inbox is full, or one of its members too far behind with policy `block`, the call waits;
        cancelled there, nothing was published, and later it was. Raises `InvalidGroupName`, `MessageTooLarge`,
        `EngineError`, `Overloaded` when it has waited for `block_timeout`, and `UnexpectedPosition` for a draft that
        expects the group elsewhere than it is once the call has waited.

        A draft with an idempotency key is published once: a repeat is answered with the first receipt, as
        `idempotency.Once` has it, wherever it expects the group.
        """
        if draft.idempotency_key is not None and not self.engine.remembers:
            return await self._publish_once(name, draft.idempotency_key, draft)
        published = await self._publish(name, draft)
        position, audience = published.position, published.audience
        if audience is None:
            return await self._receipt(name, position)
        counts = audience.subscribers, audience.behind
        return Receipt(name, position.epoch, position.offset, *counts, approximate=True, repeated=published.repeated)

    async def post(self, name: str, draft: Draft) -> Position:
        """Publish as `publish` does, for whoever wants no receipt: returns once the message has its position, so that
        what is posted next can be told to members together with it."""
        if draft.idempotency_key is not None:
            receipt = await self.publish(name, draft)
            return Position(receipt.epoch, receipt.offset)
        return (await self._publish(name, draft)).position

    async def _publish_once(self, name: str, key: str, draft: Draft) -> Receipt:
        self._running()

        async def publish() -> Position:
            return (await self._publish(name, draft)).position

        receive = partial(self._receipt, name)
        receipt = await self._once.publish((name, key), draft, publish, receive, self._start_if_running)
        if receipt.repeated:
            self.meters.of(name).repeat()
        return receipt

    def _receipt(self, name: str, position: Position) -> Awaitable[Receipt]:
        """Say who is told of the message at `position`, once that is known. Not async: every publish comes by."""
        group = self._groups.get(name)
        return _told_to_nobody(name, position) if group is None else group.receipt(position)

    async def _publish(self, name: str, draft: Draft) -> Published:
        check_group_name(name)
        draft.check_size(self.settings.max_message)
        self._running()
        group = self._groups.get(name)
        if group is not None and group.policy is Policy.BLOCK:
            async with group.gate.room_for(group, draft.weight):
                published = await self._ask_engine(name, draft)
        else:
            published = await self._ask_engine(name, draft)
        traffic = self.meters.of(name)
        if published.repeated:
            traffic.repeat()
        else:
            traffic.publish(len(draft.data))
        return published

    async def _ask_engine(self, name: str, draft: Draft) -> Published:
        try:
            return await self.engine.publish(name, draft)
        except EngineUnavailable:
            self.meters.fail(Failure.UNAVAILABLE)
            raise
        except UnknownOutcome:
            self.meters.fail(Failure.UNKNOWN)
            raise

    async def info(self, name: str) -> GroupInfo:
        """Describe a group, with its members in all processes; one that has none has its position.

        Raises `InvalidGroupName`, and `EngineError` if other processes, or the position, can't be asked about.
        """
        check_group_name(name)
        return await self._overview.info(name)

    async def history(
        self, name: str, since: Position | None = None, limit: int = PAGE, *, reverse: bool = False
    ) -> History:
        """Return a page of what the engine keeps of a group, as `read_history` says; a group that nobody knows has
        the empty epoch and no messages."""
        check_group_name(name)
        self._running()
        return await read_history(self.engine, name, since, limit, reverse=reverse)

    async def page(self, after: str | None, limit: int) -> Sequence[GroupInfo]:
        """Describe the groups with members by name, at most `limit` of those after the name `after`; raises as `info`
        does."""
        return await self._overview.page(after, limit)

    def opened_groups(self) -> Sequence[Group]:
        """Return the groups with members here."""
        return [group for group in self._groups.values() if group.subscribers]

    async def order(self, order: Order) -> Outcome:
        """Part with clients, in whatever process they are. Raises `EngineError` if the others can't be asked."""
        self._running()
        if order.client is not None and not is_connection_id(order.client):  # nobody is asked about what can't be one
            await trio.lowlevel.checkpoint()
            return Outcome(0)
        return await self.engine.order(order)

    # What the engine asks of this process

    async def obey(self, order: Order, age: float = 0.0) -> int:
        """Part with clients that are here, as an order says that was given `age` seconds ago; returns how many."""
        return await carry_out(self.roster, order, age)

    async def counts(self) -> Mapping[str, Audience]:
        """Count the members here of each group."""
        counts = {}
        for number, group in enumerate(self.opened_groups(), 1):
            counts[group.name] = Audience(group.subscribers, group.behind)
            if number % COUNT_CHUNK == 0:
                await trio.lowlevel.checkpoint()
        return counts

    @property
    def groups(self) -> int:
        """How many groups have members here."""
        return len(self._groups)

    def _start_if_running(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task, *args)

    def _running(self) -> trio.Nursery:
        if self._nursery is None:
            raise NotRunning(
                "Triocast is not running: start the application first (in tests: `async with app.test_app()`)"
            )
        return self._nursery

    def _open(self, name: str) -> Group:
        nursery = self._running()
        group = self._groups[name] = Group(
            name, self.settings.for_group(name), self.engine, self._pins, self.meters, self._rounds.arouse
        )
        nursery.start_soon(group.run, self._forget, name=f"group {name}")
        return group

    def _retire_unused(self, group: Group) -> None:
        if group.unused and not group.ended:
            self._forget(group)
            group.retire()

    def _forget(self, group: Group) -> None:
        if self._groups.get(group.name) is group:
            del self._groups[group.name]


async def _told_to_nobody(name: str, position: Position) -> Receipt:
    await trio.lowlevel.checkpoint()  # who publishes to nobody in a loop must not keep others from joining
    return Receipt(name, position.epoch, position.offset, 0, 0)
