"""The memory engine: positions and history of one process, gone when it ends.

It starts nothing but the task that forgets what is over its time.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile

import trio

from triocast.core.last_values import LastValues
from triocast.core.log import Bounds, GroupLog
from triocast.core.message import Draft, Message, Position
from triocast.core.positions import is_expected
from triocast.core.presence import Change, Member, Members, Reason
from triocast.core.recovery import Join
from triocast.engines import NOBODY, Audience, Host, NodeState, Page, Published
from triocast.engines.rolls import Rolls
from triocast.errors import UnexpectedPosition
from triocast.inbox import Inbox, InboxClosed
from triocast.settings import Settings

NOWHERE = Position("", 0)  # where a group stands that nobody knows
SWEEP_EVERY = 1.0  # seconds; how late, at most, memory of what has expired is given back


def random_epoch() -> str:
    """Return a new epoch: 8 characters, so that two starts never share one by accident."""
    return secrets.token_hex(4)


class MemoryEngine:
    """Keeps each group's history and position in this process.

    `new_epoch` names the epochs; tests hand in their own. Time is trio's clock.
    """

    name = "memory"
    at_once = True
    remembers = False
    process: str | None = None
    why = ""
    nodes: Sequence[NodeState] = ()
    unsubscribed = 0

    def __init__(self, settings: Settings, *, new_epoch: Callable[[], str] = random_epoch) -> None:
        self._settings = settings
        self._new_epoch = new_epoch
        self._logs: dict[str, GroupLog] = {}
        self._inboxes: dict[str, Inbox] = {}
        # Groups without members, by when they were last used: their positions expire in this order.
        self._idle: OrderedDict[str, float] = OrderedDict()
        # Groups with history, by when it last grew: the first is the first to lose it when memory is short.
        self._warm: OrderedDict[str, float] = OrderedDict()
        # Last values, by when they last changed: they go when memory is short and there is no history left to go.
        self._values: OrderedDict[str, LastValues] = OrderedDict()
        self._shortest_ttl = min(each.history_ttl for each in (settings, *settings.namespaces.values()))
        self._weight = 0
        self._rolls = Rolls(settings, self._tell)
        self._host: Host = NOBODY

    def __repr__(self) -> str:
        return f"<MemoryEngine {len(self._logs)} groups, {len(self._inboxes)} active, history {self._weight} bytes>"

    async def run(
        self,
        host: Host = NOBODY,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Forget, every second, what is over its time."""
        self._host = host
        task_status.started()
        try:
            while True:
                await trio.sleep(SWEEP_EVERY)
                self.sweep(trio.current_time())
                self._rolls.expire(trio.current_time())
        finally:
            self._rolls.end()
            self._host = NOBODY

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        """Deliver what is published from here on to `inbox`, in order, each once."""
        await trio.lowlevel.checkpoint()
        position = self._log(group, trio.current_time()).position
        self._inboxes[group] = inbox
        self._idle.pop(group, None)
        try:
            yield position
        finally:
            # A group that ended may still be leaving while its successor of the same name is there.
            if self._inboxes.get(group) is inbox:
                del self._inboxes[group]
                self._touch(group, trio.current_time())

    async def publish(self, group: str, draft: Draft) -> Published:
        """Publish; what is expected, position, history and inbox entry are one step, without a checkpoint in it."""
        inbox = await self._reserve(group)
        now = trio.current_time()
        if draft.expected is not None and not is_expected(draft.expected, position := self._position(group, now)):
            if inbox is not None:
                inbox.release()
            raise UnexpectedPosition(group, draft.expected, position)
        log = self._log(group, now)
        message = Message(group, log.epoch, log.top + 1, draft.kind, draft.data, draft.key, draft.exclude)
        self._keep(log, message, now)
        if inbox is not None:
            inbox.put_nowait(message)
        else:
            self._touch(group, now)
        return Published(message.position)

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        """Return what history has: whatever was published is in the inbox."""
        return await self.read(group, after, limit)

    async def read(self, group: str, after: int, limit: int) -> Page:
        """Return the messages kept after the offset `after`, oldest first."""
        log = await self._current(group)
        return Page(NOWHERE, ()) if log is None else Page(log.position, tuple(log.page(after, limit)))

    async def read_back(self, group: str, before: int | None, limit: int) -> Page:
        """Return the messages kept before the offset `before`, newest first."""
        log = await self._current(group)
        return Page(NOWHERE, ()) if log is None else Page(log.position, tuple(log.page_back(before, limit)))

    async def last_values(self, group: str, after: int, limit: int) -> Page:
        """Return the last values after the offset `after`, oldest first."""
        log = await self._current(group)
        values = self._values.get(group)
        kept = () if values is None else tuple(values.after(after, limit))
        return Page(NOWHERE, ()) if log is None else Page(log.position, kept)

    async def position(self, group: str) -> Position:
        """Return where the group stands; an unknown group has the empty epoch."""
        await trio.lowlevel.checkpoint()
        return self._position(group, trio.current_time())

    async def census(self, groups: Sequence[str]) -> Mapping[str, Mapping[str, Audience]]:
        """Return nothing of each: there is no other process."""
        await trio.lowlevel.checkpoint()
        return {group: {} for group in groups}

    async def listed(self, after: str | None, limit: int) -> Sequence[str]:  # noqa: ARG002 - there is none
        """Return nothing: there is no other process."""
        await trio.lowlevel.checkpoint()
        return ()

    def enter(self, group: str, member: Member) -> None:
        """Take a member in, and tell of it."""
        self._rolls.enter(group, member)

    def depart(self, group: str, client: str, reason: Reason) -> None:
        """Strike a member off, and tell of it, once its grace is over."""
        self._rolls.depart(group, client, reason, trio.current_time())

    async def members(self, group: str, after: str | None, limit: int) -> Members:
        """Return the members after the connection `after`."""
        await trio.lowlevel.checkpoint()
        return self._rolls.page(group, after, limit)

    def _tell(self, group: str, changes: Sequence[Change], occupied: bool, vacated: bool) -> None:
        inbox = self._inboxes.get(group)
        if inbox is not None:
            inbox.notices.add(changes)
        self._host.noticed(group, changes, occupied=occupied, vacated=vacated)

    def sweep(self, now: float) -> None:
        """Forget messages and positions that are over their time at `now`.

        A group that is published to sheds old messages by itself; what is left to do is those that fell silent.
        """
        silent = takewhile(lambda item: item[1] <= now - self._shortest_ttl, self._warm.items())
        for group, _ in list(silent):
            log = self._logs[group]
            self._expire(log, now)
            if not log:
                del self._warm[group]
        while self._idle:
            group, since = next(iter(self._idle.items()))
            if since > now - self._settings.position_ttl:
                break
            self._forget(group)

    async def _reserve(self, group: str) -> Inbox | None:
        """Wait for a place in the inbox of the group as it is once we have it; None when nobody is in it."""
        while True:
            inbox = self._inboxes.get(group)
            if inbox is None:
                await trio.lowlevel.checkpoint()
            else:
                try:
                    await inbox.reserve()
                except InboxClosed:
                    await trio.lowlevel.checkpoint()
                    inbox = None
            if self._inboxes.get(group) is inbox:
                return inbox
            if inbox is not None:
                inbox.release()

    def _keep(self, log: GroupLog, message: Message, now: float) -> None:
        group = message.group
        self._weight -= log.weight
        log.append(message, now)
        self._weight += log.weight
        if log:
            self._warm[group] = now
            self._warm.move_to_end(group)
        self._keep_value(message)
        while self._weight > self._settings.history_memory and len(self._warm) > 1:
            coldest, _ = self._warm.popitem(last=False)
            self._weight -= self._logs[coldest].weight
            self._logs[coldest].clear()
        while self._weight > self._settings.history_memory and len(self._values) > 1:
            self._weight -= self._values.popitem(last=False)[1].weight

    def _keep_value(self, message: Message) -> None:
        settings = self._settings.for_group(message.group)
        if settings.join is Join.LAST:
            values = self._values.pop(message.group, None) or LastValues(settings.max_keys)
            self._values[message.group] = values
            self._weight -= values.weight
            values.put(message)
            self._weight += values.weight

    async def _current(self, group: str) -> GroupLog | None:
        """Return what is kept of a group at this moment; None for a group that nobody knows."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        log = self._known(group, now)
        if log is not None:
            self._expire(log, now)
        return log

    def _expire(self, log: GroupLog, now: float) -> None:
        self._weight -= log.weight
        log.expire(now)
        self._weight += log.weight

    def _known(self, group: str, now: float) -> GroupLog | None:
        """Return the group's log, unless its position is over its time."""
        since = self._idle.get(group)
        if since is not None and since <= now - self._settings.position_ttl:
            self._forget(group)
        return self._logs.get(group)

    def _position(self, group: str, now: float) -> Position:
        log = self._known(group, now)
        return NOWHERE if log is None else log.position

    def _log(self, group: str, now: float) -> GroupLog:
        log = self._known(group, now)
        if log is None:
            settings = self._settings.for_group(group)
            bounds = Bounds(settings.history_size, settings.history_bytes, settings.history_ttl)
            log = self._logs[group] = GroupLog(Position(self._new_epoch(), 0), bounds)
        return log

    def _touch(self, group: str, now: float) -> None:
        self._idle[group] = now
        self._idle.move_to_end(group)
        while len(self._idle) > self._settings.max_groups:
            self._forget(next(iter(self._idle)))

    def _forget(self, group: str) -> None:
        del self._idle[group]
        self._weight -= self._logs.pop(group).weight
        if group in self._values:
            self._weight -= self._values.pop(group).weight
        self._warm.pop(group, None)
