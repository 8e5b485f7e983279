"""What the simulation knows of groups by itself: every message that was published, and what history must hold of them.

It is the engine's second opinion: the plainest code there is, which shares nothing with the code under test.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from types import MappingProxyType

import trio

from tests.engines.unkind import UnkindEngine
from tests.simulation_presence import Company
from triocast import Message, Position, Settings
from triocast.core.log import GroupLog
from triocast.core.presence import Member, Reason
from triocast.engines import NOBODY, Host, Page
from triocast.engines.memory import NOWHERE, SWEEP_EVERY, MemoryEngine
from triocast.inbox import Inbox


class Era:
    """One epoch of a group; offsets begin at 1."""

    def __init__(self, epoch: str, size: int, weight: int, age: float) -> None:
        self.epoch = epoch
        self.data: list[bytes] = []
        self.keys: list[str | None] = []
        self.excludes: list[str | None] = []
        self.times: list[float] = []
        self.newest: dict[str | None, int] = {}  # of each key
        self._weights: list[int] = []
        self._bounds = size, weight, age
        self._bottom = 1  # the oldest offset that was held when somebody looked

    @property
    def top(self) -> int:
        return len(self.data)

    def add(self, message: Message, now: float) -> None:
        assert message.offset == self.top + 1
        self.data.append(message.data)
        self.keys.append(message.key)
        self.excludes.append(message.exclude)
        self.times.append(now)
        self._weights.append(message.weight)
        self.newest[message.key] = message.offset
        size, weight, _ = self._bounds
        while self._bottom < self.top and (self.top - self._bottom >= size or self._sum(self._bottom) > weight):
            self._bottom += 1

    def oldest(self, now: float) -> int:
        """Return the oldest offset that history holds; one more than the newest if it holds none."""
        while self._bottom <= self.top and self.times[self._bottom - 1] <= now - self._bounds[2]:
            self._bottom += 1
        return self._bottom

    def held(self, now: float, late: float = 0.0) -> int:
        """Return how many bytes of the era history holds, if what is over its time goes `late`."""
        first = self.oldest(now)
        while late and first > 1 and self.times[first - 2] > now - self._bounds[2] - late:
            first -= 1
        return self._sum(first)

    def clear(self) -> None:
        """History was taken away because there was too much of all groups."""
        self._bottom = self.top + 1

    def _sum(self, first: int) -> int:
        return sum(self._weights[first - 1 :])


class Truth:
    """One group: its eras, of which the last is the present one, and whether anybody is there."""

    def __init__(self, group: str, settings: Settings) -> None:
        self.group = group
        self.settings = settings.for_group(group)
        self.policy = self.settings.policy
        self.eras: dict[str, Era] = {}
        self.era = Era("", 0, 0, 0)  # before there is one
        self.positions: dict[bytes, Position] = {}
        self.moments: set[float] = set()  # when something was published
        self.acknowledged = 0  # the highest offset of the era with a receipt
        self.forgotten = 0  # how often the group began afresh
        self._idle_since: float | None = None
        self._position_ttl = settings.position_ttl

    @property
    def top(self) -> int:
        return self.era.top

    @property
    def published(self) -> int:
        return sum(era.top for era in self.eras.values())

    def use(self, epoch: str, now: float) -> None:
        """The engine is asked for the group; it is the group that it was unless its time is over."""
        if epoch == self.era.epoch:
            assert not self.is_forgotten(now), f"{self.group} is kept for longer than its time"
            return
        assert epoch not in self.eras
        assert not self.eras or self.is_forgotten(now), f"{self.group} was forgotten before its time"
        self.forgotten += bool(self.eras)
        kept = self.settings
        self.era = self.eras[epoch] = Era(epoch, kept.history_size, kept.history_bytes, kept.history_ttl)
        self.acknowledged = 0

    def is_forgotten(self, now: float, late: float = 0.0) -> bool:
        """Whether nobody may know the group any more; `late`, not even who is late in forgetting."""
        return self._idle_since is not None and self._idle_since <= now - self._position_ttl - late

    def arrive(self) -> None:
        self._idle_since = None

    def touch(self, now: float) -> None:
        self._idle_since = now

    def add(self, message: Message, now: float) -> None:
        assert message.epoch == self.era.epoch
        assert message.data not in self.positions
        self.era.add(message, now)
        self.positions[message.data] = message.position
        self.moments.add(now)

    def check_page(self, page: Page, after: int, limit: int, now: float) -> None:
        """What was read is what is held."""
        if not self.eras or self.is_forgotten(now):
            assert page == Page(NOWHERE, ())
            return
        first = max(after + 1, self.era.oldest(now))
        assert page.position == Position(self.era.epoch, self.top)
        assert [each.offset for each in page.messages] == [*range(first, min(first + limit, self.top + 1))]
        assert all(each.data == self.era.data[each.offset - 1] for each in page.messages)


class Recorded(MemoryEngine):
    """The memory engine, telling `truths` of every position it gives, in the step of giving it."""

    truths: dict[str, Truth]
    companies: Mapping[str, Company] = MappingProxyType({})
    """Who is in which group, for those who want to judge that, too."""

    task: trio.lowlevel.Task | None = None
    """In which it runs."""

    cleared = 0  # how often a group has lost its history to others
    pages = 0
    far: Random | None = None
    """For a store to which the way is long: by the time that a page is there, more has happened."""

    async def run(self, host: Host = NOBODY, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.task = trio.lowlevel.current_task()
        await super().run(host, task_status=task_status)

    @property
    def ending(self) -> bool:
        """Whether it is about to strike everybody off, because something has failed."""
        return trio.lowlevel.current_task() is self.task and trio.current_effective_deadline() == -math.inf

    def name_epochs(self) -> None:
        """Have epochs that are the same in every run."""
        count = iter(range(1_000_000))
        self._new_epoch = lambda: f"era{next(count)}"

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        async with super().subscribe(group, inbox) as position:
            self.truths[group].arrive()
            yield position

    async def read(self, group: str, after: int, limit: int) -> Page:
        page = await super().read(group, after, limit)
        self.truths[group].check_page(page, after, limit, trio.current_time())
        self.pages += 1
        if self.far is not None:
            await trio.sleep(self.far.choice([0, 0.001, 0.2]))
        return page

    def enter(self, group: str, member: Member) -> None:
        if group in self.companies:
            self.companies[group].enter(member.client)
        super().enter(group, member)

    def depart(self, group: str, client: str, reason: Reason) -> None:
        if group in self.companies:
            self.companies[group].depart(client)
        super().depart(group, client, reason)

    def check_memory(self, now: float) -> None:
        """Nothing is kept for longer than it may be, all together no more than that."""
        kept = self._settings.history_memory
        assert self._weight <= kept or len(self._warm) == 1
        assert self._weight == sum(log.weight for log in self._logs.values())
        for group in self._logs:
            assert not self.truths[group].is_forgotten(now, SWEEP_EVERY)

    def check_forgotten(self) -> None:
        assert not any([self._logs, self._idle, self._warm, self._inboxes, self._weight])

    def _log(self, group: str, now: float) -> GroupLog:
        log = super()._log(group, now)
        self.truths[group].use(log.epoch, now)
        return log

    def _touch(self, group: str, now: float) -> None:
        self.truths[group].touch(now)
        super()._touch(group, now)

    def _keep(self, log: GroupLog, message: Message, now: float) -> None:
        self.truths[message.group].add(message, now)
        super()._keep(log, message, now)
        self._check_cleared([each for each in self._logs if each != message.group and not self._logs[each]], now)

    def _check_cleared(self, empty: Iterable[str], now: float) -> None:
        """Who has lost its history to others was silent for the longest, and all together had too much."""
        eras = {name: truth.era for name, truth in self.truths.items() if not truth.is_forgotten(now)}
        cleared = [eras[name] for name in empty if name in eras and eras[name].oldest(now) <= eras[name].top]
        if cleared:
            late = self._shortest_ttl + SWEEP_EVERY
            assert sum(era.held(now, late) for era in eras.values()) > self._settings.history_memory
        for era in cleared:
            era.clear()
            self.cleared += 1
        held = [era for era in eras.values() if era.oldest(now) <= era.top]
        assert all(gone.times[-1] <= era.times[-1] for gone in cleared for era in held)
        if len(held) > 1 and (cleared or self.pages % 50 == 0):  # each time would be dear
            assert sum(era.held(now) for era in held) <= self._settings.history_memory


class RecordedUnkind(Recorded, UnkindEngine):
    """The same of the engine that misdelivers."""
