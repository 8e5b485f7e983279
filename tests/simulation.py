"""A whole hub on a virtual clock: clients that come, go, stall, break off and never read again, all from a seed.

It decides what happens when; what each client must see then, `simulation_model` knows.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

from tests.simulation_census import Census
from tests.simulation_course import Course, HandlerCrash
from tests.simulation_life import Life
from tests.simulation_net import Kernel, virtual_network
from tests.simulation_people import PRIVATE, Person
from tests.simulation_presence import (
    OFF,
    Attendance,
    Attended,
    Company,
    Witness,
    lateness,
    pinned_chance,
    soon_too_much,
)
from tests.simulation_publishers import Publishers
from tests.simulation_settings import GROUPS, settings_with
from tests.simulation_truth import Recorded, RecordedUnkind, Truth
from triocast import GapReason, Message, Policy
from triocast.connection import Connection
from triocast.core.names import namespace_of
from triocast.engines.memory import SWEEP_EVERY
from triocast.errors import MISSED, TOO_SLOW, ConnectionEnded
from triocast.hub import Hub
from triocast.link.stall import LOOKS
from triocast.meters import Eviction
from triocast.reception import Reception
from triocast.testing import run_seeded

TINY = 1e-6  # seconds: what floating point leaves of equality


def seed_of(default: int) -> int:
    """The seed of a run; TRIOCAST_SIM_SEED replays another."""
    return int(os.environ.get("TRIOCAST_SIM_SEED", default))


@dataclass
class Simulation:
    """`clients` of them for `length` virtual seconds, and then until everything is delivered and everybody has left.

    A system call takes `cost` virtual seconds; with none, times are exact.
    """

    seed: int
    clients: int = 150
    length: float = 40.0
    rate: float = 50.0  # publishes a second
    cost: float = 0.0
    unkind: bool = False  # on an engine that misdelivers
    far: bool = False  # on an engine that takes its time to read history
    write_timeout: float = 15.0
    asks: float = 0.5  # of those who can, so many want to know who is there
    calm: float = 1.0  # how much longer than usual clients stay, and stay where they are
    groups: Sequence[str] = GROUPS

    def __post_init__(self) -> None:
        self.forgiving = [name for name in self.groups if namespace_of(name) not in ("d", "n", "b")]
        self.settings = settings_with(self.write_timeout)
        self.exact = not (self.cost or self.unkind or self.far)
        # `block` is for engines that deliver what they take at once.
        # What an engine has lost for good comes as one gap, however long that is.
        self.never_behind = set() if self.unkind else {Policy.DISCONNECT, Policy.BLOCK}
        self.public = [name for name in self.groups if namespace_of(name) != PRIVATE]
        self.private = [name for name in self.groups if namespace_of(name) == PRIVATE]
        self.truths = {name: Truth(name, self.settings) for name in self.groups}
        self.census = {name: Census() for name in self.groups}
        late = lateness(exact=self.exact)
        self.companies = {
            name: Company(name, self.settings.for_group(name).presence_grace, late, self._is_there)
            for name in self.groups
        }
        self.witness = Witness(Random(f"{self.seed} hooks"))
        self.publishers = Publishers(self)
        self.open: dict[str, Life] = {}  # by the id of its connection
        self.resets = self.crashes = 0
        self.lives: list[Life] = []  # of those who are there
        self.all = self.joins = self.stalls = self.refusals = self.receipts = self.told = self.partial = 0
        self.recovered = self.delivered = self.cleared = 0
        self.cuts: Counter[str] = Counter()  # by what was under way
        self.wishes: Counter[str] = Counter()
        self.evictions: Counter[Eviction] = Counter()
        self.reasons: Counter[GapReason] = Counter()
        self.failures: list[AssertionError] = []
        self.refused: list[bytes] = []
        self._digest = hashlib.sha256()

    def __str__(self) -> str:
        def listed(counts: Counter[Any]) -> str:
            return ", ".join(f"{count} {getattr(what, 'value', what)}" for what, count in counts.items() if count)

        return (
            f"seed {self.seed}: {self.all} lives, {self.joins} joins, {self.receipts} publishes, {self.told} frames, "
            f"{self.recovered} recovered, {self.delivered} not given to whom they exclude, "
            f"{self.partial} partial writes, {self.stalls} stalls, "
            f"{self.refusals} refusals, {self.forgotten} groups forgotten, {self.cleared} cleared; "
            f"cuts: {listed(self.cuts)}; wishes: {listed(self.wishes)}; "
            f"evicted: {listed(self.evictions)}; gaps: {listed(self.reasons)}; "
            f"{self.resets} resets, {self.moves} moves, {self.crashes} crashes, {self.witness.failures} failed hooks"
        )

    @property
    def forgotten(self) -> int:
        return sum(truth.forgotten for truth in self.truths.values())

    @property
    def moves(self) -> int:
        return sum(company.moves for company in self.companies.values())

    @property
    def recipe(self) -> str:
        names = (
            "seed",
            "clients",
            "length",
            "rate",
            "cost",
            "unkind",
            "far",
            "write_timeout",
            "asks",
            "calm",
            "groups",
        )
        return f"Simulation({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def run(self) -> str:
        """Run and check it; returns a digest of everything that every client saw, and when."""
        try:
            with virtual_network(), soon_too_much(), pinned_chance(self.seed):
                run_seeded(self._main, seed=self.seed)
        except BaseException as error:
            for first in self.failures[:1]:
                error.add_note(f"what a client saw: {first}")
            error.add_note(f"replay with TRIOCAST_SIM_SEED={self.seed}, or {self.recipe}.run()")
            raise
        return self._digest.hexdigest()

    async def _main(self) -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        self.settling, self.leaving = trio.Event(), trio.Event()
        engine = RecordedUnkind(self.settings, self.seed) if self.unkind else Recorded(self.settings)
        engine.truths, engine.companies = self.truths, self.companies
        engine.name_epochs()
        engine.far = Random(f"{self.seed} far") if self.far else None
        self.hub = hub = Attended(self.settings, engine)
        hub.companies, hub.witness, hub.failures = self.companies, self.witness, self.failures
        hub.is_ending = lambda: engine.ending
        self.witness.listen(hub)
        self.reception = Reception(hub)
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            async with trio.open_nursery() as self.clients_nursery, trio.open_nursery() as clients:
                for number in range(self.clients):
                    clients.start_soon(self._client, hub, Random(f"{self.seed} client {number}"))
                clients.start_soon(self._watch_bounds, hub, engine)
                await self._publish_for_the_length(hub)
                await self._settle(hub)
                if self.seed % 2:
                    await hub.roster.drain()
                self.leaving.set()
            self._check_nothing_left(hub)
            await trio.sleep(self.settings.position_ttl + 2 * SWEEP_EVERY)
            engine.check_forgotten()
            self.cleared = engine.cleared
            assert not any(company.members for company in self.companies.values())
            assert not engine._rolls._rolls
            hub.stop()
        self.witness.check(hub)
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    async def _publish_for_the_length(self, hub: Hub) -> None:
        with trio.move_on_after(self.length):
            async with trio.open_nursery() as publishers:
                for number in range(10):
                    publishers.start_soon(self.publishers.run, hub, number, Random(f"{self.seed} publisher {number}"))

    async def _settle(self, hub: Hub) -> None:
        """Let everybody read who ever will, and evict who will not; what is left has been told everything then."""
        self.settling.set()
        for life in self.lives:
            life.scope.deadline = math.inf
            if not life.dead:
                life.kernel.read_at(math.inf)
        patience = 2 * (self.settings.write_timeout + self.settings.close_timeout)
        await trio.sleep(patience)
        for name in self.groups:
            # So that what an engine lost is missed.
            await self.publishers.publish(hub, name, f"{name}|the last|".encode(), None)
        await trio.sleep(patience)
        for life in self.lives:
            assert not life.fading, (life.connection, life.kernel, life.ended_at)
        for group in hub._groups.values():
            assert group.log.top == self.truths[group.name].top
            assert group.behind == group.waiting == 0, (group, group.behind, group.waiting)
            low, high = self.census[group.name].low, self.census[group.name].high
            assert low == high == group.subscribers, (group, low, high)
        there = {name: {each.id for each in self._members_of(name)} for name in self.groups}
        for name in self.groups:
            assert self.companies[name].members.keys() == (there[name] if namespace_of(name) != OFF else set())
        for life in self.lives:
            for group in life.members:
                subscription = life.subscription(group)
                life.view.check_complete(group, subscription.missed)
                life.view.attendances.check_complete(group, there[group])
            life.view.check_streams(life.members)

    def _members_of(self, group: str) -> list[Connection]:
        return [life.connection for life in self.lives if group in life.members and life.connection is not None]

    def _is_there(self, group: str, client: str) -> bool:
        """Whether a connection is surely in a group."""
        life = self.open.get(client)
        return life is not None and group in life.members and not (life.fading or life.connection.ended)  # type: ignore[union-attr]

    def ask(self, attendance: Attendance) -> None:
        """Somebody has been told to ask who is there."""
        random = Random(f"{self.seed} {attendance.company.group} {trio.current_time()}")
        self.clients_nursery.start_soon(attendance.ask, self.hub, random)

    def _check_nothing_left(self, hub: Hub) -> None:
        assert not self.lives
        assert (hub.connections, hub.groups, hub._pins.used) == (0, 0, 0)
        assert not hub._groups
        for truth in self.truths.values():
            assert not truth.positions.keys() & set(self.refused)
        for census in self.census.values():
            assert (census.low, census.high) == (0, 0)
        counted = {why: count for why, count in hub.meters.evicted.items() if count}
        assert counted == {why: count for why, count in self.evictions.items() if count}, (counted, self.evictions)
        traffic = hub.meters.traffic.values()
        assert sum(each.published for each in traffic) == sum(truth.published for truth in self.truths.values())

    # Clients

    async def _client(self, hub: Hub, random: Random) -> None:
        person = Person(self.groups, self.forgiving, random, asks=self.asks)
        away = random.uniform(0, self.length / 4)
        while True:
            with trio.move_on_after(away):
                await self.settling.wait()
            if self.settling.is_set():
                return
            life = Life(self, person, random)
            self.lives.append(life)
            self.all += 1
            with life.scope:
                await self._live(hub, life)
            self._bury(life)
            await trio.lowlevel.checkpoint()
            away = person.away(self.length / 4)

    async def _live(self, hub: Hub, life: Life) -> None:
        groups = life.person.groups()
        async with trio.open_nursery() as around:
            around.start_soon(self._cancel, life)
            with suppress(ConnectionEnded, HandlerCrash):  # who is evicted before all its groups are joined
                async with life.open(hub, groups) as life.connection:
                    life.view.id = life.connection.id
                    self.open[life.connection.id] = life
                    if not life.connection.ended:  # by lagging, before all its groups were joined
                        life.note_opened(groups)
                    await Course(self, life, life.connection).run()
            around.cancel_scope.cancel()

    async def _cancel(self, life: Life) -> None:
        """Somebody gives up while it comes in."""
        if life.turns is not None:
            for _ in range(life.turns):
                await trio.lowlevel.checkpoint()
            life.scope.cancel()

    def _bury(self, life: Life) -> None:
        """Look at how it ended."""
        life.gone()
        self.lives.remove(life)
        self.check_time(trio.current_time(), life.ended_at, within=self.settings.close_timeout)
        close = life.connection._close if life.connection is not None else None
        if close is not None and close.code == TOO_SLOW.code:
            self._check_lag(life, close.reason)
        elif close is not None and close.code == MISSED.code:
            assert life.person.strict
            self.evictions[Eviction.MISSED] += 1
        elif life.link.writer.stalled and close is None:
            self.evictions[Eviction.WRITE_TIMEOUT] += 1
        if close is not None and life.view.closed is not None:
            assert life.view.closed.code == close.code
        self.told += life.view.told
        self.recovered += life.view.recovered
        self.delivered += life.view.delivered
        self.partial += life.kernel.partial
        self.resets += life.view.attendances.resets
        if life.connection is not None:
            self.open.pop(life.connection.id, None)
        self.reasons += life.view.reasons
        self._digest.update(b"%r " % trio.current_time() + life.view.digest)

    # What must be so

    def check_deadline(self, kernel: Kernel) -> None:
        """Somebody is reset because nothing moved: for exactly `write_timeout`, unless the client has taken something
        while it was waited for; that is looked at eight times in the timeout."""
        timeout, since = self.settings.write_timeout, kernel.waiting_since
        assert since is not None
        assert not kernel.writable
        if kernel.moved_at <= since:
            self.check_time(trio.current_time(), since + timeout)
        else:
            self.check_time(trio.current_time(), kernel.moved_at + timeout, within=timeout / LOOKS)

    def _check_lag(self, life: Life, reason: str) -> None:
        """Somebody is closed for lagging: the group's policy says so, it did lag, and a message has just come."""
        lag, group = int(reason.split()[2]), reason.split()[-3].removesuffix(";")
        truth = self.truths[group]
        if truth.policy is Policy.DISCONNECT:
            self.evictions[Eviction.TOO_SLOW] += 1
            most = math.inf if self.unkind else truth.settings.max_lag + max(1, truth.settings.max_lag // 4)
            assert truth.settings.max_lag < lag <= most
        else:
            self.evictions[Eviction.PINNED_BYTES] += 1
            assert truth.policy is Policy.DROP_NEWEST
            assert lag >= truth.settings.max_lag
        if not life.view.silent and group in life.members:
            assert truth.top - life.members[group].at >= lag
        if self.exact and not life.scope.cancelled_caught:  # else it was on its way out already
            assert life.ended_at in truth.moments

    def check_time(self, now: float, due: float, within: float = 0.0) -> None:
        slack = TINY if self.exact else 2.0  # a turn of the event loop takes its time where system calls do
        assert due - slack <= now <= due + within + slack, (now, due)

    def _check_patience(self, life: Life) -> None:
        """Nobody is waited for longer than `write_timeout` while nothing moves."""
        kernel = life.kernel
        if not (kernel.writable or kernel.closed or life.fading) and kernel.waiting_since is not None:
            quiet = trio.current_time() - max(kernel.waiting_since, kernel.moved_at)
            slack = TINY if self.exact else 2.0
            assert quiet <= self.settings.write_timeout * (1 + 1 / LOOKS) + slack, (kernel, quiet)

    async def _watch_bounds(self, hub: Hub, engine: Recorded) -> None:
        while not self.leaving.is_set():
            engine.check_memory(trio.current_time())
            for group in hub._groups.values():
                if group.opened.is_set():
                    settings = self.settings.for_group(group.name)
                    assert len(group.log) <= settings.max_lag
                    assert group.waiting <= settings.inbox
                    if group.policy in self.never_behind:
                        assert group.slowest <= settings.max_lag, group
            assert hub._pins.used <= self.settings.pinned_bytes
            for life in self.lives:
                self._check_patience(life)
                if self.exact:
                    life.check_attendances()
                if life.connection is not None:
                    # Of each group an end and a new beginning may wait, and who is there.
                    assert len(life.connection._outbound) <= 3 * len(self.groups)
                    self._check_holds_nothing(life.connection)
            with trio.move_on_after(0.5):
                await self.leaving.wait()

    @staticmethod
    def _check_holds_nothing(connection: Connection) -> None:
        """Whoever recovers holds no message that it has not been given."""
        for subscription in connection._memberships:
            recovery = subscription.recovery
            held = [getattr(recovery, name) for name in recovery.__slots__] if recovery is not None else []
            assert not any(isinstance(each, Message | list | tuple | deque | dict | set) for each in held)


def crowd(seed: int, clients: int) -> Simulation:
    """Return a simulation of very many clients for a short time, on a machine that feels it."""
    groups = ("news", "l:prices", "d:chat", "n:audit", "b:jobs")
    return Simulation(seed, clients, length=14.0, rate=8.0, cost=0.00001, asks=0.03, calm=5.0, groups=groups)
