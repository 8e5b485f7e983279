"""Coming back: what was missed, then the live messages, with nothing lost, doubled or out of order in between."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.engines.unkind import UnkindEngine
from tests.test_told import publish, running_hub, told
from triocast import Draft, EngineError, Gap, GapReason, Kind, Message, Policy, Position, Settings
from triocast.connection import Connection, open_connection
from triocast.core.listening import Listening
from triocast.core.recovery import OLDEST, Last, Wish
from triocast.core.wire import JSON, RAW, Format
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.errors import NORMAL
from triocast.hub import Hub
from triocast.meters import Eviction
from triocast.recovery import PAGE, plan_recovery
from triocast.testing import MemoryTransport
from triocast.transports.events import Call, PortableEvents


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


class SlowToJoin(MemoryEngine):
    """Lets nobody into the group "b" before it is told to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.go = trio.Event()

    async def read(self, group: str, after: int, limit: int) -> Page:
        if group == "b":
            await self.go.wait()
        return await super().read(group, after, limit)


@pytest.mark.parametrize("events", [False, True])
async def test_one_evicted_before_it_is_in_all_its_groups_is_accepted_and_told_why(events: bool) -> None:
    async with running_hub(SlowToJoin, policy=Policy.DISCONNECT, max_lag=2) as hub, trio.open_nursery() as nursery:
        assert isinstance(hub.engine, SlowToJoin)
        await publish(hub, "b", 1)
        sent: list[dict[str, Any]] = []

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        memory = MemoryTransport(RAW)
        call = Call({"http_version": "2", "headers": []}, trio.sleep_forever, send)
        portable = PortableEvents(call, Listening(["a", "b"], {}), hub.settings, None)

        async def come() -> None:
            async with open_connection(hub, portable if events else memory, ["a", "b"], {"a": OLDEST, "b": OLDEST}):
                await trio.sleep_forever()

        nursery.start_soon(come)
        await trio.testing.wait_all_tasks_blocked()
        await publish(hub, "a", 5)
        await trio.testing.wait_all_tasks_blocked()
        hub.engine.go.set()
        await trio.testing.wait_all_tasks_blocked()
        if events:
            assert sent[0]["status"] == 200
            assert b"event: close" in sent[-1]["body"]
            assert b"1013" in sent[-1]["body"]
        else:
            assert memory.closed is not None
            assert memory.closed.code == 1013
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


@pytest.mark.parametrize("form", [RAW, JSON])
async def test_what_is_published_while_history_is_looked_at_waits_for_what_was_missed(form: Format) -> None:
    async with running_hub(SlowEngine) as hub:
        assert isinstance(hub.engine, SlowEngine)
        await publish(hub, "g", 3)
        transport = MemoryTransport(form)
        async with open_connection(hub, transport) as connection, trio.open_nursery() as nursery:
            hub.engine.slow_down()
            nursery.start_soon(connection.join, "g", OLDEST)
            await hub.engine.reading.wait()
            await publish(hub, "g", 2)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == []
            hub.engine.allowed.set()
            await trio.testing.wait_all_tasks_blocked()
        assert told(transport) == [*(["g@0"] if form is JSON else []), 1, 2, 3, 4, 5]


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


class ForgetfulEngine(MemoryEngine):
    """Begins the group afresh when it is told to, also under its members."""

    afresh = False

    async def read(self, group: str, after: int, limit: int) -> Page:
        if self.afresh:
            messages = [Message(group, "afresh", offset, Kind.TEXT, b"x") for offset in range(after + 1, 9)]
            return Page(Position("afresh", 8), tuple(messages[:limit]))
        return await super().read(group, after, limit)


@pytest.mark.parametrize("first", [True, False])
async def test_messages_of_another_epoch_are_not_taken_for_what_was_missed(first: bool) -> None:
    async with running_hub(ForgetfulEngine) as hub:
        engine = hub.engine
        assert isinstance(engine, ForgetfulEngine)
        await publish(hub, "g", 5)
        since, until = await position(hub, 2), await position(hub, 5)
        engine.afresh = first
        recovery = await plan_recovery(engine, "g", since, until, 100)
        assert recovery.start == (5 if first else 2)
        engine.afresh = True
        entries = await recovery.take(64_000)
        assert entries == [Gap("g", until.epoch, 3, 5, GapReason.LOST)]
        assert recovery.done
