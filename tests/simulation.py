"""A whole hub on a virtual clock: clients that come, go, stall and break off, all from a seed.

The model knows only what was published and who was in which group when; `check` holds every client against it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from triocast import Draft, Gap, GapReason, GroupSettings, Message, Policy, Settings
from triocast.connection import Connection, open_connection
from triocast.engines import Engine
from triocast.engines.memory import MemoryEngine
from triocast.errors import Overloaded
from triocast.hub import Hub
from triocast.testing import MemoryTransport, run_seeded

GROUPS = ["news", "sport", "d:chat", "d:docs", "user:1", "l:prices", "n:audit", "b:jobs", "$odd", "a,b"]


def seed_of(default: int) -> int:
    """The seed of a run; TRIOCAST_SIM_SEED replays another."""
    return int(os.environ.get("TRIOCAST_SIM_SEED", default))


@dataclass
class Membership:
    group: str
    start: int  # nothing up to this offset is owed
    end: int | None = None  # nothing after this offset is owed; None: still a member


@dataclass
class SimClient:
    """One client with its transport and what the model knows of it."""

    number: int
    transport: MemoryTransport
    memberships: list[Membership] = field(default_factory=list)
    finished: bool = False  # broke off, was closed, or left: nothing more is owed

    def end(self, hub: Hub) -> None:
        self.finished = True
        for membership in self.memberships:
            if membership.end is None:
                membership.end = top_of(hub, membership.group)


def top_of(hub: Hub, name: str) -> int:
    group = hub._groups.get(name)
    return group.log.top if group is not None and group.opened.is_set() else 0


@dataclass
class Simulation:
    """`clients` of them for `length` virtual seconds; `make_engine` says on which engine."""

    seed: int
    clients: int = 1000
    length: float = 60.0
    make_engine: Callable[[Settings], Engine] = MemoryEngine
    settings: Settings = field(
        default_factory=lambda: Settings(
            max_lag=40,
            inbox=8,
            history_size=500,
            namespaces={
                "d": GroupSettings(policy=Policy.DISCONNECT, max_lag=15, inbox=8, history_size=500),
                "l": GroupSettings(policy=Policy.LATEST, max_lag=20, inbox=8, history_size=500),
                "n": GroupSettings(policy=Policy.DROP_NEWEST, max_lag=20, inbox=8, history_size=500),
                "b": GroupSettings(policy=Policy.BLOCK, max_lag=30, inbox=8, history_size=500, block_timeout=3.0),
            },
        )
    )

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.published: dict[str, dict[int, bytes]] = {name: {} for name in GROUPS}
        self.all: list[SimClient] = []
        self.joins = self.stalls = self.cuts = self.evictions = self.gaps = self.refusals = 0
        self.reasons: set[GapReason] = set()

    def run(self) -> str:
        """Run and check it; returns a digest of everything that every client saw."""
        try:
            run_seeded(self._main, seed=self.seed)
            self.check()
        except BaseException as error:
            error.add_note(f"replay with TRIOCAST_SIM_SEED={self.seed}")
            raise
        return self.digest()

    async def _main(self) -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        hub = Hub(self.settings, self.make_engine(self.settings))
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            with trio.move_on_after(self.length):
                async with trio.open_nursery() as publishers:
                    for number in range(5):
                        publishers.start_soon(self._publisher, hub, number)
                    async with trio.open_nursery() as clients:
                        for number in range(self.clients):
                            clients.start_soon(self._client, hub, number, Random(self.random.random()))
                        clients.start_soon(self._watch_bounds, hub)
            # Everybody who was still there was cut off by the end of time; now nothing may be left.
            with trio.fail_after(10 * self.settings.close_timeout):
                while hub.connections or hub.groups:
                    await trio.sleep(0.1)
            hub.stop()
        assert hub._pins.used == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert not hub._groups
        assert not hub._connections

    async def _publisher(self, hub: Hub, number: int) -> None:
        random = Random(self.seed * 1000 + number)
        count = 0
        while True:
            group = random.choice(GROUPS)
            count += 1
            data = f"{number}:{count}:{'x' * random.choice([0, 10, 300])}"
            key = random.choice([None, "x", "y"])
            with trio.move_on_after(random.choice([0.0001, 5])):  # some publishers have no patience
                try:
                    receipt = await hub.publish(group, Draft.of(data, key=key))
                except Overloaded:
                    self.refusals += 1
                    continue
                assert receipt.offset not in self.published[group]
                self.published[group][receipt.offset] = data.encode()
            await trio.sleep(random.expovariate(4))

    async def _client(self, hub: Hub, number: int, random: Random) -> None:
        while True:
            await trio.sleep(random.uniform(0, self.length / 4))
            client = SimClient(number, SlowTransport(random))
            self.all.append(client)
            with trio.move_on_after(random.expovariate(2 / self.length)) as life:
                async with open_connection(hub, client.transport) as connection, trio.open_nursery() as nursery:
                    nursery.start_soon(self._fate, client, random)
                    await self._wander(hub, client, connection, random)
            client.end(hub)
            self.evictions += connection._close is not None and connection._close.code == 1013
            assert life.cancelled_caught or connection.ended

    async def _wander(self, hub: Hub, client: SimClient, connection: Connection, random: Random) -> None:
        while True:
            group = random.choice(GROUPS)
            if group in connection.groups and random.random() < 0.4:
                membership = next(m for m in client.memberships if m.group == group and m.end is None)
                membership.end = top_of(hub, group)
                await connection.leave(group)
            elif group not in connection.groups:
                self.joins += 1
                await connection.join(group)
                client.memberships.append(Membership(group, connection._subscriptions[group].cursor))  # type: ignore[union-attr]
            else:
                await connection.join(group)  # twice is harmless
            await trio.sleep(random.expovariate(0.5))

    async def _fate(self, client: SimClient, random: Random) -> None:
        while True:
            await trio.sleep(random.expovariate(1 / 8))
            if random.random() < 0.2:
                self.cuts += 1
                client.transport.vanish()
                return
            self.stalls += 1
            client.transport.stall()
            await trio.sleep(random.expovariate(1 / 10))
            client.transport.resume()

    async def _watch_bounds(self, hub: Hub) -> None:
        while True:
            for group in hub._groups.values():
                if group.opened.is_set():
                    assert len(group.log) <= self.settings.for_group(group.name).max_lag
                    assert len(group._inbox) <= self.settings.for_group(group.name).inbox
            for client in hub._connections:
                assert len(client._ready) <= len(GROUPS)  # type: ignore[attr-defined]
            await trio.sleep(0.5)

    def check(self) -> None:
        """Invariants 1 and 2 for every client, against what was really published."""
        for client in self.all:
            for membership in client.memberships:
                self._check_membership(client, membership)
            owed = {(m.group) for m in client.memberships}
            assert {entry.group for entry in client.transport.received} <= owed  # type: ignore[union-attr]

    def _check_membership(self, client: SimClient, membership: Membership) -> None:
        expected = membership.start + 1
        upper = membership.end if membership.end is not None else 10**9
        for entry in client.transport.received:
            assert isinstance(entry, Message | Gap)
            first, last = (entry.offset,) * 2 if isinstance(entry, Message) else (entry.first, entry.last)
            if entry.group != membership.group or last <= membership.start or first > upper:
                continue
            assert first == expected, f"client {client.number} in {membership}: {entry} where {expected} is due"
            expected = last + 1
            if isinstance(entry, Gap):
                self.gaps += 1
                self.reasons.add(entry.reason)
            elif entry.offset in self.published[entry.group]:  # others: published, but the publisher had gone
                assert entry.data == self.published[entry.group][entry.offset]

    def digest(self) -> str:
        """A fingerprint of what all clients saw; connection ids and epochs are left out, they are random."""
        told = hashlib.sha256()
        for client in self.all:
            for entry in client.transport.received:
                what = entry.data if isinstance(entry, Message) else repr(entry)[-40:].encode()
                told.update(what if isinstance(what, bytes) else b"")
            told.update(b"%d|" % len(client.transport.received))
        return told.hexdigest()


class SlowTransport(MemoryTransport):
    """A client whose network takes a moment now and then."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    async def _record(self, item: object) -> None:
        if self._random.random() < 0.05:
            await trio.sleep(self._random.expovariate(20))
        await super()._record(item)  # type: ignore[arg-type]
