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
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import trio

from tests.simulation_life import Life
from tests.simulation_model import Census
from tests.simulation_net import Kernel, virtual_network
from tests.simulation_people import PRIVATE, Person
from tests.simulation_presence import GRACES, OFF, Attendance, Attended, Company, Witness, lateness, soon_too_much
from tests.simulation_truth import Recorded, RecordedUnkind, Truth
from tests.simulation_wire import ECHO
from triocast import Draft, GapReason, GroupSettings, Message, Policy, Position, Settings
from triocast.connection import Connection
from triocast.core.names import namespace_of
from triocast.engines.memory import SWEEP_EVERY
from triocast.errors import MISSED, TOO_SLOW, ConnectionEnded, Overloaded
from triocast.hub import Hub
from triocast.link.stall import LOOKS
from triocast.meters import Eviction
from triocast.reception import Reception
from triocast.subscription import Subscription
from triocast.testing import run_seeded

PUBLIC = ("news", "$odd", "a,b", "d:chat", "d:docs", "l:prices", "l:state", "n:audit", "n:log", "b:jobs", "b:mail")
"""By namespace, two groups or more of every policy."""

GROUPS = (*PUBLIC, *(f"{PRIVATE}:{number}" for number in range(40)))
"""And some that are of hardly anybody: they become empty, and are forgotten."""

TINY = 1e-6  # seconds: what floating point leaves of equality
A_FEW_TURNS = 6  # of the event loop, until everybody concerned has noticed an end


class HandlerCrash(Exception):
    """What a handler of the simulation raises now and then."""


def seed_of(default: int) -> int:
    """The seed of a run; TRIOCAST_SIM_SEED replays another."""
    return int(os.environ.get("TRIOCAST_SIM_SEED", default))


def settings_of(policy: Policy, max_lag: int, **history: Any) -> GroupSettings:
    return GroupSettings(policy=policy, max_lag=max_lag, inbox=8, block_timeout=3.0, **history)


def with_presence(namespaces: dict[str, GroupSettings]) -> dict[str, GroupSettings]:
    return {
        name: replace(each, presence=name != OFF, presence_grace=GRACES.get(name, 0.0))
        for name, each in namespaces.items()
    }


def settings_with(write_timeout: float) -> Settings:
    """Bounds that are met soon: each namespace has another one for what it keeps."""
    return Settings(
        write_timeout=write_timeout,
        max_lag=20,
        inbox=8,
        history_size=40,
        history_ttl=10.0,
        recovery_limit=25,
        max_connections=1_000_000,
        pinned_bytes=20_000,
        history_memory=120_000,
        position_ttl=12.0,
        shutdown_spread=10.0,
        hook_queue=100_000,
        hook_timeout=0.2,
        namespaces=with_presence(
            {
                "d": settings_of(Policy.DISCONNECT, 15, history_ttl=12.0, history_bytes=6_000),
                "l": settings_of(Policy.LATEST, 10, history_ttl=12.0, history_size=30),
                "n": settings_of(Policy.DROP_NEWEST, 10, history_ttl=3.0, history_size=500),
                "b": settings_of(Policy.BLOCK, 12, history_ttl=12.0, history_size=500),
                PRIVATE: settings_of(Policy.DROP_OLDEST, 20, history_ttl=12.0, history_size=10),
            }
        ),
    )


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
        self._refused: list[bytes] = []
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
            with virtual_network(), soon_too_much():
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
        hub.companies, hub.witness = self.companies, self.witness
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
                    publishers.start_soon(self._publisher, hub, number, Random(f"{self.seed} publisher {number}"))

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
            await self._publish(hub, name, f"{name}|the last|".encode(), None)  # so that what an engine lost is missed
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
                subscription = life.connection._subscriptions[group]
                assert isinstance(subscription, Subscription)
                life.view.check_complete(group, subscription.missed)
                life.view.check_attendance(group, there[group])
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
            assert not truth.positions.keys() & set(self._refused)
        for census in self.census.values():
            assert (census.low, census.high) == (0, 0)
        counted = {why: count for why, count in hub.meters.evicted.items() if count}
        assert counted == {why: count for why, count in self.evictions.items() if count}, (counted, self.evictions)
        traffic = hub.meters.traffic.values()
        assert sum(each.published for each in traffic) == sum(truth.published for truth in self.truths.values())

    # Publishers

    async def _publisher(self, hub: Hub, number: int, random: Random) -> None:
        count = 0
        while True:
            group = random.choice(self.private if self.private and random.random() < 0.15 else self.public)
            count += 1
            size = random.choice([0, 10, 300, 300, 5_000 if random.random() < 0.1 else 0])
            data = f"{group}|{number}|{count}|{'x' * size}".encode()
            with trio.move_on_after(random.choice([0.0001, 5, math.inf])):  # some have no patience
                if random.random() < 0.2:
                    burst = [data + b"|%d" % part for part in range(random.randint(1, 6))]
                    await self._post(hub, group, burst, self._excluded(group, random))
                await self._publish(hub, group, data, random.choice([None, "x", "y"]), self._excluded(group, random))
            await trio.sleep(random.expovariate(self.rate / 10))

    def _excluded(self, group: str, random: Random) -> str | None:
        """Return whom a message is not to be given: now and then a member, or one that may become one."""
        if random.random() < 0.6:
            return None
        open_ones = [life for life in self.lives if life.connection is not None]
        members = [life for life in open_ones if group in life.members]
        some = members if random.random() < 0.8 else open_ones
        return random.choice(some).connection.id if some else None  # type: ignore[union-attr]

    async def _post(self, hub: Hub, group: str, burst: list[bytes], exclude: str | None) -> None:
        """Publish several at once without waiting for receipts."""
        with suppress(Overloaded):
            for data in burst:
                position = await hub.post(group, Draft.of(data.decode(), exclude=exclude))
                assert self.truths[group].positions[data] == position

    async def _publish(self, hub: Hub, group: str, data: bytes, key: str | None, exclude: str | None = None) -> None:
        truth, began = self.truths[group], trio.current_time()
        epoch, acknowledged = truth.era.epoch, truth.acknowledged
        with self.census[group].watch() as members:
            try:
                receipt = await hub.publish(group, Draft.of(data.decode(), key=key, exclude=exclude))
            except Overloaded:
                self.refusals += 1
                self._refused.append(data)
                assert truth.policy is Policy.BLOCK
                self._check_time(trio.current_time(), began + truth.settings.block_timeout)
                return
            truth.acknowledged = max(truth.acknowledged, receipt.offset)
            assert truth.positions[data] == Position(receipt.epoch, receipt.offset)
            busy = []
            if receipt.epoch == epoch:
                busy = [life for life in self.lives if self._is_busy(life, group, acknowledged, receipt.offset)]
            for _ in range(A_FEW_TURNS):
                await trio.lowlevel.checkpoint()
        assert members.low <= receipt.subscribers <= members.high, (receipt, members.low, members.high)
        assert sum(not life.fading for life in busy) <= receipt.behind <= receipt.subscribers, receipt
        self.receipts += 1

    @staticmethod
    def _is_busy(life: Life, group: str, offset: int, new: int) -> bool:
        """Whether it must have been counted as behind when the message `new` came: it was there, and has not been told
        even now what came up to `offset`. Of who is told no gaps it can't be said."""
        member = life.members.get(group)
        if member is None or life.view.silent or life.fading:
            return False
        return member.until < new and member.at < offset

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
                    life.note_opened(groups)
                    await self._stay(life, life.connection)
            around.cancel_scope.cancel()

    async def _stay(self, life: Life, connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._echo, connection)
            nursery.start_soon(self._fate, life, nursery.cancel_scope)
            try:
                with suppress(ConnectionEnded):
                    await self._wander(life, connection)
                await self.leaving.wait()
            finally:
                life.fade()
            nursery.cancel_scope.cancel()
        if life.crashes:
            self.crashes += 1
            raise HandlerCrash

    async def _cancel(self, life: Life) -> None:
        """Somebody gives up while it comes in."""
        if life.turns is not None:
            for _ in range(life.turns):
                await trio.lowlevel.checkpoint()
            life.scope.cancel()

    async def _wander(self, life: Life, connection: Connection) -> None:
        random, interests = life.random, life.person.interests
        while not (self.settling.is_set() or life.person.stream):
            group = random.choice(interests)
            if group not in life.members:
                await self._join(life, connection, group)
            elif random.random() < 0.6 and group in connection.groups:
                life.note_leave(group)
                await connection.leave(group)
                if random.random() < 0.3:  # and back at once, perhaps in the middle of a round
                    await self._join(life, connection, group)
            else:
                await connection.join(group)  # twice is harmless
            with trio.move_on_after(random.expovariate(0.4 / self.calm)):
                await self.settling.wait()

    async def _join(self, life: Life, connection: Connection, group: str) -> None:
        await connection.join(group, life.note_joining(group))
        if group not in connection.groups:  # the writer has seen that the client is gone, and the reader not yet
            assert life.fading
            raise ConnectionEnded
        life.note_join(group)

    async def _echo(self, connection: Connection) -> None:
        with suppress(ConnectionEnded):
            async for said in connection:
                await connection.send(said)

    async def _fate(self, life: Life, handler: trio.CancelScope) -> None:
        """What the client does beside reading: nothing, stall and come back, never read again, or go."""
        random, said = life.random, 0
        while not self.settling.is_set():
            with trio.move_on_after(random.expovariate(1 / 6)):
                await self.settling.wait()
            if self.settling.is_set() or life.fading:
                return
            ends = ["die", "cut", "close", "leave", "crash"] if random.random() < 1 / self.calm else []
            match random.choice(["speak", "speak", "stall", "stall", "stall", *ends]):
                case "speak" if life.person.stream:  # it can't, but be spoken to
                    said += 1
                    await self._speak(life, f"{ECHO}{said}")
                case "speak":
                    said += 1
                    life.link.say(f"{ECHO}{said}")
                case "stall" if not life.steady:
                    await self._stall(life)
                case "die" if not life.steady:
                    life.dead = True
                    life.kernel.read_at(0)
                    return
                case "cut":
                    life.cut()
                    return
                case "close" if life.rate == math.inf:
                    life.fade()
                    life.link.say_goodbye()
                    return
                case "crash" if random.random() < 0.3:
                    life.crashes = True
                    handler.cancel()
                case "leave" if random.random() < 0.3:
                    await life.connection.close(4000, "bye")

    async def _speak(self, life: Life, data: str) -> None:
        with suppress(ConnectionEnded):
            await life.connection.send(data)

    async def _stall(self, life: Life) -> None:
        """A moment, or minutes; longer than `write_timeout` is the end of who has something coming."""
        self.stalls += 1
        life.kernel.read_at(0)
        with trio.move_on_after(life.random.expovariate(life.random.choice([1.0, 1 / 8, 1 / 120]))):
            await self.settling.wait()
        life.kernel.read_at(life.rate)

    def _bury(self, life: Life) -> None:
        """Look at how it ended."""
        life.gone()
        self.lives.remove(life)
        self._check_time(trio.current_time(), life.ended_at, within=self.settings.close_timeout)
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
        self.resets += life.view.resets
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
            self._check_time(trio.current_time(), since + timeout)
        else:
            self._check_time(trio.current_time(), kernel.moved_at + timeout, within=timeout / LOOKS)

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

    def _check_time(self, now: float, due: float, within: float = 0.0) -> None:
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
                if life.connection is not None:
                    # Of each group an end and a new beginning may wait, and who is there.
                    assert len(life.connection._outbound) <= 3 * len(self.groups)
                    self._check_holds_nothing(life.connection)
            with trio.move_on_after(0.5):
                await self.leaving.wait()

    @staticmethod
    def _check_holds_nothing(connection: Connection) -> None:
        """Whoever recovers holds no message that it has not been given."""
        for subscription in connection._subscriptions.values():
            recovery = subscription.recovery if isinstance(subscription, Subscription) else None
            held = [getattr(recovery, name) for name in recovery.__slots__] if recovery is not None else []
            assert not any(isinstance(each, Message | list | tuple | deque | dict | set) for each in held)


def crowd(seed: int, clients: int) -> Simulation:
    """Return a simulation of very many clients for a short time, on a machine that feels it."""
    groups = ("news", "l:prices", "d:chat", "n:audit", "b:jobs")
    return Simulation(seed, clients, length=14.0, rate=8.0, cost=0.00001, calm=5.0, groups=groups)
