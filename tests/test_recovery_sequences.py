"""Any sequence of publish, join, leave, cut, resume, trim and expiry, on a kind engine and an unkind one.

Every visit is given exactly what follows what its client wished for, as far as it is kept, and told of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation_membership import beginning
from tests.simulation_truth import Recorded, RecordedUnkind, Truth
from tests.test_told import running_hub
from triocast import Connection, Draft, Gap, GapReason, Message, Position, Settings
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST, Last, Wish
from triocast.core.wire import JSON, Joined
from triocast.hub import Hub
from triocast.subscription import Subscription
from triocast.testing import MemoryTransport, run_seeded

PEOPLE = 3
MAX_LAG = 4
LIMIT = 5
BOUNDS: dict[str, Any] = {
    "history_size": 7,
    "history_bytes": 1_500,
    "history_ttl": 60.0,
    "history_memory": 2_000,
    "recovery_limit": LIMIT,
    "position_ttl": 90.0,
    "max_lag": MAX_LAG,
}

WHO = st.integers(0, PEOPLE - 1)
WISHES = st.one_of(
    st.just("where it was"),
    st.just(OLDEST),
    st.builds(Last, st.integers(1, 10)),
    st.integers(0, 60),  # one of the positions there have been
    st.builds(Position, st.just("elsewhere"), st.integers(0, 20)),
    st.just("beyond"),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 6), st.sampled_from([1, 1, 100, 700])),
        st.tuples(st.just("publish elsewhere"), st.integers(1, 3), st.just(500)),  # and all memory is for that
        st.tuples(st.just("join"), WHO, WISHES),
        st.tuples(st.just("join"), WHO, st.just("where it was")),
        st.tuples(st.just("leave"), WHO),
        st.tuples(st.just("stall"), WHO),
        st.tuples(st.just("resume"), WHO),
        st.tuples(st.just("cut"), WHO),
        st.tuples(st.just("end"), WHO),
        st.tuples(st.just("sleep"), st.integers(1, 100)),
    ),
    max_size=30,
)


@dataclass
class Visit:
    """A membership of somebody: where it began, and what has to come first."""

    joined: Position
    until: int
    due: tuple[int, int, GapReason] | None
    before: str | None
    begin: int  # how much its client had received before
    end: int | None = None


class Someone:
    """A client that comes and goes, and knows where it was."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scope = trio.CancelScope()
        self.transport = MemoryTransport(JSON)
        self.connection: Connection | None = None
        self.stalled = False
        self.visits: list[tuple[Visit, MemoryTransport]] = []
        self.at: Position | None = None

    @property
    def here(self) -> bool:
        return self.connection is not None and not self.connection.ended

    @property
    def member(self) -> bool:
        return self.connection is not None and self.connection.groups == ["g"]

    async def join(self, nursery: trio.Nursery, wish: Wish | None) -> None:
        if not self.here:
            self.transport, self.stalled = MemoryTransport(JSON), False
            await nursery.start(self._stay)
        assert self.connection is not None
        world, received = self.world, len(self.transport.received)
        known = world.truth.era.epoch, world.truth.era.oldest(trio.current_time())
        await self.connection.join("g", wish)
        (subscription,) = self.connection._memberships
        assert isinstance(subscription, Subscription)
        epoch = subscription.group.log.epoch
        oldest = known[1] if known[0] == epoch else 1
        start, due = beginning(wish, Position(epoch, subscription.cursor), oldest, LIMIT)
        before = wish.epoch if due is not None and due[2] is GapReason.EPOCH and isinstance(wish, Position) else None
        visit = Visit(Position(epoch, start), subscription.cursor, due, before, received)
        self.visits.append((visit, self.transport))

    async def leave(self) -> None:
        if self.member:
            assert self.connection is not None
            await self.connection.leave("g")
            self._end_visit()

    async def _stay(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self.scope:
            async with open_connection(self.world.hub, self.transport) as self.connection:
                task_status.started()
                await trio.sleep_forever()

    def end(self) -> None:
        self._end_visit()
        self.scope.cancel()

    def _end_visit(self) -> None:
        if self.visits and self.visits[-1][0].end is None:
            visit, transport = self.visits[-1]
            visit.end = len(transport.received)
            self.at = self.world.check(visit, transport)


class World:
    """One group whose history and position are trimmed and forgotten, and another that takes memory from it."""

    def __init__(self, hub: Hub, nursery: trio.Nursery, truth: Truth) -> None:
        self.hub = hub
        self.nursery = nursery
        self.truth = truth
        self.lossy = isinstance(hub.engine, RecordedUnkind)
        self.people = [Someone(self) for _ in range(PEOPLE)]
        self.known: list[Position] = []
        self._number = count()

    async def happen(self, kind: str, number: int, what: Any = None) -> None:
        who = self.people[number] if kind not in ("publish", "publish elsewhere", "sleep") else self.people[0]
        match kind:
            case "publish" | "publish elsewhere":
                group = "g" if kind == "publish" else "other"
                for _ in range(number):
                    await self.publish(group, what)
            case "join" if not who.member and not (who.here and who.stalled):
                await who.join(self.nursery, self._wish(who, what))
            case "leave" if not who.stalled:
                await who.leave()
            case "stall":
                who.transport.stall()
                who.stalled = True
            case "resume":
                who.transport.resume()
                who.stalled = False
            case "cut":
                who.transport.vanish()
                await trio.testing.wait_all_tasks_blocked()
                who.end()
            case "end":
                who.transport.resume()
                who.end()
            case "sleep":
                await trio.sleep(number)
        await trio.testing.wait_all_tasks_blocked()

    def _wish(self, who: Someone, what: Any) -> Wish | None:
        match what:
            case "where it was":
                return who.at
            case "beyond":
                return Position(self.truth.era.epoch or "elsewhere", self.truth.top + 3)
            case int():
                return self.known[what % len(self.known)] if self.known else None
            case _:
                assert isinstance(what, Position | Last)
                return what

    async def publish(self, group: str, size: int) -> None:
        receipt = await self.hub.publish(group, Draft.of(f"{next(self._number)} {'x' * size}"))
        if group == "g":
            self.known.append(Position(receipt.epoch, receipt.offset))

    def check(self, visit: Visit, transport: MemoryTransport) -> Position | None:
        """What was received in the visit is what had to be, in order; return up to where that brings its client."""
        received = transport.received[visit.begin : visit.end]
        if not received:
            return None
        first, *rest = received
        assert isinstance(first, Joined)
        assert Position(first.epoch, first.offset) == visit.joined
        era, at, due = self.truth.eras[first.epoch], visit.joined.offset, visit.due
        if due is not None:
            at = due[0] - 1
        for item in rest:
            assert isinstance(item, Gap | Message)
            assert item.epoch == era.epoch
            if isinstance(item, Message):
                assert (due, item.offset, item.data) == (None, at + 1, era.data[at])
                at += 1
                continue
            assert item.first == at + 1
            if due is not None:
                assert (item.first, item.last, item.reason, item.before) == (*due, visit.before)
                due = None
            else:
                self._check_gap(item, visit)
            at = item.last
        return Position(era.epoch, at) if due is None else None

    def _check_gap(self, gap: Gap, visit: Visit) -> None:
        era, gone = self.truth.eras[gap.epoch], self.truth.eras[gap.epoch].oldest(trio.current_time())
        assert gap.first <= gap.last
        if gap.first <= visit.until:  # gone from history while it stalled in its recovery
            assert (gap.reason, gap.last <= visit.until, gap.last < gone) == (GapReason.LOST, True, True)
        elif gap.reason is GapReason.LOST:
            assert self.lossy
            assert gap.last < gone
        else:
            assert gap.reason is GapReason.SLOW
            assert gap.last <= era.top - MAX_LAG or self.lossy

    async def check_all(self) -> None:
        for who in self.people:
            who.transport.resume()
        await trio.sleep(30)
        await self.publish("g", 1)  # so that what an engine has lost is missed
        await trio.sleep(30)
        top = Position(self.truth.era.epoch, self.truth.top)
        for who in self.people:
            for visit, transport in who.visits:
                at = self.check(visit, transport)
                if visit.end is None and who.member:
                    assert at == top


def play(events: list[tuple[Any, ...]], seed: int, *, unkind: bool) -> None:
    async def main() -> None:
        truths: dict[str, Truth] = {}

        def make(settings: Settings) -> Recorded:
            engine = RecordedUnkind(settings, seed) if unkind else Recorded(settings)
            engine.truths = truths
            truths.update({name: Truth(name, settings) for name in ("g", "other")})
            return engine

        async with running_hub(make, **BOUNDS) as hub, trio.open_nursery() as nursery:
            assert isinstance(hub.engine, Recorded)
            hub.engine.name_epochs()
            world = World(hub, nursery, truths["g"])
            for event in events:
                await world.happen(*event)
            await world.check_all()
            hub.engine.check_memory(trio.current_time())
            nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()

    run_seeded(main, seed=seed)


@pytest.mark.parametrize("unkind", [False, True])
@settings(max_examples=200, deadline=None)
@given(EVENTS, st.integers(0, 1000))
def test_whatever_happens_every_visit_is_given_all_that_is_kept_and_told_of_the_rest(
    unkind: bool, events: list[tuple[Any, ...]], seed: int
) -> None:
    play(events, seed, unkind=unkind)
