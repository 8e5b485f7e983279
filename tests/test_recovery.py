"""Coming back: what was missed, then the live messages, with nothing lost, doubled or out of order in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.unkind import UnkindEngine
from tests.test_told import publish, running_hub, told
from triocast import Draft, EngineError, Gap, GapReason, Message, Policy, Position, Settings
from triocast.connection import Connection, open_connection
from triocast.core.recovery import OLDEST, Last, Wish
from triocast.core.wire import JSON, RAW
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.errors import NORMAL
from triocast.hub import Hub
from triocast.meters import Eviction
from triocast.recovery import PAGE, plan_recovery
from triocast.testing import MemoryTransport


async def visit(
    hub: Hub,
    wish: Wish,
    *,
    transport: MemoryTransport | None = None,
    strict: bool = False,
    task_status: trio.TaskStatus[tuple[Connection, MemoryTransport]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a member of "g" until cancelled."""
    transport = transport if transport is not None else MemoryTransport(RAW)
    async with open_connection(hub, transport, ["g"], {"g": wish}, strict=strict) as connection:
        task_status.started((connection, transport))
        await trio.sleep_forever()


async def position(hub: Hub, offset: int) -> Position:
    return Position((await hub.info("g")).epoch, offset)


async def view(hub: Hub, wish: Wish, **how: Any) -> list[Any]:
    """Return what a client is told that comes, is given all there is, and goes."""
    transport = MemoryTransport(RAW)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: visit(hub, wish, transport=transport, **how, **kw))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return told(transport)


@pytest.mark.parametrize(
    ("since", "expected"),
    [(10, []), (8, [9, 10]), (5, [6, 7, 8, 9, 10]), (2, [(3, 5), 6, 7, 8, 9, 10]), (0, [(1, 5), 6, 7, 8, 9, 10])],
)
async def test_what_was_missed_is_given_and_what_is_gone_is_named(since: int, expected: list[Any]) -> None:
    async with running_hub(history_size=5) as hub:
        await publish(hub, "g", 10)
        assert await view(hub, await position(hub, since)) == expected


async def test_the_oldest_kept_the_last_few_and_no_more_than_there_are() -> None:
    async with running_hub(history_size=5) as hub:
        await publish(hub, "g", 10)
        assert await view(hub, OLDEST) == [6, 7, 8, 9, 10]
        assert await view(hub, Last(2)) == [9, 10]
        assert await view(hub, Last(100)) == [6, 7, 8, 9, 10]


async def test_more_than_the_limit_is_named_and_the_newest_are_given() -> None:
    async with running_hub(history_size=100, recovery_limit=3) as hub:
        await publish(hub, "g", 10)
        assert await view(hub, await position(hub, 2)) == [(3, 7), 8, 9, 10]


@pytest.mark.parametrize(("epoch", "offset"), [("another", 3), (None, 11)])
async def test_a_position_of_another_epoch_is_said_and_all_that_is_kept_is_given(
    epoch: str | None, offset: int
) -> None:
    async with running_hub(history_size=5) as hub:
        await publish(hub, "g", 10)
        now = (await hub.info("g")).epoch
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g"], {"g": Position(epoch or now, offset)}):
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@5", (1, 5), 6, 7, 8, 9, 10]
            gap = transport.received[1]
            assert isinstance(gap, Gap)
            assert (gap.reason, gap.before, gap.epoch) == (GapReason.EPOCH, epoch or now, now)
            assert transport.positions == [Position(now, 5)]


async def test_a_new_group_has_nothing_to_recover_and_goes_on_live() -> None:
    async with running_hub() as hub, trio.open_nursery() as nursery:
        _, transport = await nursery.start(visit, hub, OLDEST)
        await publish(hub, "g", 2)
        await trio.testing.wait_all_tasks_blocked()
        assert told(transport) == [1, 2]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["memory", "unkind"])
async def test_live_messages_follow_what_was_missed_whenever_they_come(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    def make(settings: Settings) -> MemoryEngine:
        return MemoryEngine(settings) if kind == "memory" else UnkindEngine(settings, 1)

    async with running_hub(make, history_size=10_000, max_lag=10_000, history_ttl=1e6) as hub:
        await publish(hub, "g", 2 * PAGE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, hub, "g", 50)
            visits = [await nursery.start(visit, hub, await position(hub, number)) for number in range(0, 300, 100)]
            await trio.sleep(30)
            for number, (_, transport) in zip(range(0, 300, 100), visits, strict=True):
                assert told(transport) == [*range(number + 1, 2 * PAGE + 51)]
            nursery.cancel_scope.cancel()


async def test_a_strict_client_is_closed_instead_of_missing_something() -> None:
    async with running_hub(history_size=5) as hub:
        await publish(hub, "g", 10)
        transport = MemoryTransport(RAW)
        assert await view(hub, await position(hub, 5), strict=True) == [6, 7, 8, 9, 10]
        async with open_connection(hub, transport, ["g"], {"g": await position(hub, 2)}, strict=True):
            await trio.sleep_forever()
        assert told(transport) == []
        assert transport.closed is not None
        assert transport.closed.code == 4010
        assert "missed 3 to 5 (lost)" in transport.closed.reason


async def test_who_stalls_while_it_recovers_holds_nothing_and_misses_what_its_group_cannot_keep() -> None:
    async with running_hub(history_size=5, max_lag=3) as hub, trio.open_nursery() as nursery:
        await publish(hub, "g", 10)
        transport = MemoryTransport(RAW)
        transport.stall()
        await nursery.start(lambda **kw: visit(hub, OLDEST, transport=transport, **kw))
        await publish(hub, "g", 10)
        transport.resume()
        await trio.testing.wait_all_tasks_blocked()
        # Nobody keeps 6 to 10 for it: history has 5 of 20, the log 3.
        assert told(transport) == [(6, 10), (11, 17), 18, 19, 20]
        nursery.cancel_scope.cancel()


async def test_what_goes_from_history_while_it_is_read_is_named_in_its_place() -> None:
    async with running_hub(history_size=4) as hub:
        for _ in range(4):
            await hub.publish("g", Draft.of(bytes(40_000)))
        recovery = await plan_recovery(hub.engine, "g", OLDEST, await position(hub, 4), 100)
        assert [each.offset for each in await recovery.take(64_000) if isinstance(each, Message)] == [1]
        for _ in range(2):
            await hub.publish("g", Draft.of("x"))
        gap, message = await recovery.take(64_000)
        assert isinstance(gap, Gap)
        assert isinstance(message, Message)
        assert (gap.first, gap.last, gap.reason, message.offset) == (2, 2, GapReason.LOST, 3)
        assert [each.offset for each in await recovery.take(64_000) if isinstance(each, Message)] == [4]
        assert recovery.done


async def test_who_is_lagging_too_far_while_it_recovers_is_evicted_where_that_is_the_policy() -> None:
    async with (
        running_hub(history_size=100, max_lag=3, policy=Policy.DISCONNECT) as hub,
        trio.open_nursery() as nursery,
    ):
        await publish(hub, "g", 10)
        transport = MemoryTransport(RAW)
        transport.stall()
        await nursery.start(lambda **kw: visit(hub, OLDEST, transport=transport, **kw))
        await publish(hub, "g", 5)
        transport.resume()
        await trio.testing.wait_all_tasks_blocked()
        assert transport.closed is not None
        assert transport.closed.code == 1013
        nursery.cancel_scope.cancel()


class FailingEngine(MemoryEngine):
    """Reads as often as it is told to, then no more."""

    reads = 0

    async def read(self, group: str, after: int, limit: int) -> Page:
        self.reads -= 1
        if self.reads < 0:
            raise EngineError("the store is gone")
        return await super().read(group, after, limit)


async def test_an_engine_that_fails_at_the_join_refuses_it_and_leaves_nothing() -> None:
    async with running_hub(FailingEngine) as hub:
        await publish(hub, "g", 10)
        with pytest.raises(EngineError):
            async with open_connection(hub, MemoryTransport(RAW), ["g"], {"g": OLDEST}):
                pytest.fail("it was accepted")
        assert (hub.connections, hub.groups) == (0, 0)


async def test_an_engine_that_fails_later_closes_the_client_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    async with running_hub(FailingEngine) as hub:
        assert isinstance(hub.engine, FailingEngine)
        hub.engine.reads = 1
        await publish(hub, "g", 10)
        transport = MemoryTransport(RAW)
        async with open_connection(hub, transport, ["g"], {"g": OLDEST}):
            await trio.sleep_forever()
        assert transport.closed is not None
        assert transport.closed.code == 1011
    assert "could not be given what it missed" in caplog.text


class SlowEngine(MemoryEngine):
    """Reads when it is allowed to, once clients are there."""

    slow = False

    async def read(self, group: str, after: int, limit: int) -> Page:
        page = await super().read(group, after, limit)
        if self.slow:
            self.reading.set()
            await self.allowed.wait()
        return page

    def slow_down(self) -> None:
        self.slow, self.reading, self.allowed = True, trio.Event(), trio.Event()


@pytest.mark.parametrize("strict", [False, True])
async def test_who_leaves_while_its_history_is_read_is_given_nothing_of_that(strict: bool) -> None:
    async with running_hub(SlowEngine, history_size=5) as hub:
        assert isinstance(hub.engine, SlowEngine)
        await publish(hub, "g", 10)
        transport = MemoryTransport(RAW)
        transport.stall()
        async with open_connection(hub, transport, ["other"], strict=strict) as connection:
            await connection.join("g", OLDEST)
            await publish(hub, "g", 3)  # so that a strict client misses what history has no longer
            hub.engine.slow_down()
            transport.resume()
            await hub.engine.reading.wait()
            await connection.leave("g")
            hub.engine.allowed.set()
            await trio.testing.wait_all_tasks_blocked()
            await hub.publish("other", Draft.of("x"))
            await trio.testing.wait_all_tasks_blocked()
        assert told(transport) == [1]
        assert transport.closed == NORMAL


async def test_a_strict_client_that_has_left_is_not_closed_for_what_it_would_have_missed() -> None:
    async with running_hub(policy=Policy.DROP_NEWEST, max_lag=8) as hub:
        transport = MemoryTransport(RAW)
        transport.stall()
        async with open_connection(hub, transport, ["g"], strict=True) as connection:
            await publish(hub, "g", 12)
            transport.resume()
            while not told(transport):
                await trio.lowlevel.checkpoint()
            transport.stall()
            await connection.leave("g")
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
        assert told(transport) == [*range(1, 9)]
        assert transport.closed == NORMAL
    assert hub.meters.evicted[Eviction.MISSED] == 0


# Any sequence of events, against what was published

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 8)),
        st.tuples(st.just("come"), st.integers(0, 40)),
        st.tuples(st.just("stall"), st.integers(0, 3)),
        st.tuples(st.just("resume"), st.integers(0, 3)),
        st.tuples(st.just("cut"), st.integers(0, 3)),
        st.tuples(st.just("sleep"), st.integers(1, 40)),
    ),
    max_size=30,
)


class Someone:
    """A client that is cut off and comes back, again and again, to where it was."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.scope.cancel()
        self.transport = MemoryTransport(RAW)
        self.views: list[tuple[Position, MemoryTransport]] = []

    async def come(self, hub: Hub, nursery: trio.Nursery, since: Position) -> None:
        self.scope = trio.CancelScope()
        self.transport = MemoryTransport(RAW)
        await nursery.start(self._stay, hub, since)
        self.views.append((since, self.transport))

    async def _stay(self, hub: Hub, since: Position, task_status: trio.TaskStatus[Any]) -> None:
        with self.scope:
            await visit(hub, since, transport=self.transport, task_status=task_status)


def reached(since: Position, received: Sequence[object], epochs: Mapping[str, int]) -> int:
    """Check one visit, in which all that follows `since` was given or named, in order; return how far it came."""
    at = since.offset
    for item in received:
        assert isinstance(item, Message | Gap)
        first, last = (item.first, item.last) if isinstance(item, Gap) else (item.offset, item.offset)
        if isinstance(item, Gap) and item.reason is GapReason.EPOCH:
            assert item.before == since.epoch != item.epoch
            at = 0
        assert first == at + 1, f"{first} follows {at}"
        if isinstance(item, Message):
            assert int(item.data) == epochs[item.epoch] + item.offset
        at = last
    return at


class World:
    """One group, four clients, and all that was published."""

    def __init__(self, hub: Hub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.nursery = nursery
        self.people = [Someone() for _ in range(4)]
        self.known: list[Position] = []
        self.epochs: dict[str, int] = {}  # how many messages there were before each
        self.count = 0

    async def happen(self, kind: str, number: int) -> None:
        who = self.people[number % 4]
        match kind:
            case "publish":
                for _ in range(number):
                    await self.publish()
            case "come" if self.known and who.scope.cancel_called:
                await who.come(self.hub, self.nursery, self.known[number % len(self.known)])
            case "stall":
                who.transport.stall()
            case "resume":
                who.transport.resume()
            case "cut":
                who.transport.resume()
                who.scope.cancel()
            case "sleep":
                await trio.sleep(number)
        await trio.testing.wait_all_tasks_blocked()

    async def publish(self) -> None:
        self.count += 1
        receipt = await self.hub.publish("g", Draft.of(self.count))
        self.epochs.setdefault(receipt.epoch, self.count - receipt.offset)
        self.known.append(Position(receipt.epoch, receipt.offset))

    async def check(self) -> None:
        for who in self.people:
            who.transport.resume()
        await trio.testing.wait_all_tasks_blocked()
        top = (await self.hub.info("g")).offset
        for who in self.people:
            for since, transport in who.views:
                at = reached(since, transport.received, self.epochs)
                if transport is who.transport and not who.scope.cancel_called:
                    assert at == top


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_whatever_happens_every_visit_is_told_all_that_follows_its_position(events: list[tuple[str, int]]) -> None:
    async def main() -> None:
        values: dict[str, Any] = {"history_size": 6, "history_ttl": 60.0, "position_ttl": 90.0, "max_lag": 4}
        async with running_hub(**values) as hub, trio.open_nursery() as nursery:
            world = World(hub, nursery)
            for kind, number in events:
                await world.happen(kind, number)
            await world.check()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
