"""An engine that is out of reach for a while: clients that are recovering wait for it, and lose nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.test_group import Recorder
from tests.test_told import publish, running_hub, told
from triocast import EngineError, EngineUnavailable, Policy, Position, Settings, UnknownOutcome
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.core.wire import RAW
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.errors import Close
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.meters import Eviction
from triocast.pauses import FIRST_PAUSE, LONGEST_PAUSE
from triocast.source import Source
from triocast.testing import MemoryTransport, run_seeded

MANY = 600  # messages: three pages
LONG: dict[str, Any] = {"history_size": 1000, "history_ttl": 3600.0}  # so that nothing expires while it is away


class DistantEngine(MemoryEngine):
    """History of the group "g" can't be had while there is a `failure`; nothing can be joined while it is `closed`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.failure: EngineError | None = None
        self.closed = False
        self.asked: list[float] = []
        self.asked_by: dict[str, list[float]] = {}  # when each group asked for what it has not heard of
        self.good = 0  # reads that still succeed

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        if self.failure is not None:
            self.asked_by.setdefault(group, []).append(trio.current_time())
            raise self.failure
        return await super().fetch(group, after, limit)

    async def read(self, group: str, after: int, limit: int) -> Page:
        if group == "g" and self.failure is not None:
            self.good -= 1
            if self.good < 0:
                self.asked.append(trio.current_time())
                raise self.failure
        return await super().read(group, after, limit)

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        if self.closed:
            raise EngineUnavailable("the server can't be reached")
        async with super().subscribe(group, inbox) as position:
            yield position


Clock = trio.testing.MockClock


@pytest.fixture
async def hub(autojump_clock: Clock) -> AsyncIterator[Hub]:
    async with running_hub(DistantEngine, **LONG) as hub:
        yield hub


def engine_of(hub: Hub) -> DistantEngine:
    assert isinstance(hub.engine, DistantEngine)
    return hub.engine


async def lose(hub: Hub, error: EngineError, good: int = 1) -> DistantEngine:
    """Let a history be there, and out of reach after some reads; the first finds out where the client begins."""
    engine = engine_of(hub)
    await publish(hub, "g", MANY)
    engine.failure, engine.good = error, good
    return engine


@asynccontextmanager
async def visitor(hub: Hub, *groups: str) -> AsyncIterator[MemoryTransport]:
    transport = MemoryTransport(RAW)

    async def visit(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with open_connection(hub, transport, groups, {"g": OLDEST}):
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(visit)
        yield transport
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", [EngineUnavailable, UnknownOutcome])
@pytest.mark.parametrize("good", [1, 2])
async def test_a_client_that_recovers_waits_for_the_engine_and_goes_on_when_it_is_back(
    hub: Hub, autojump_clock: Clock, kind: type[EngineError], good: int
) -> None:
    engine = await lose(hub, kind("away"), good)
    async with visitor(hub, "g") as transport:
        await trio.sleep(60)
        assert transport.closed is None
        assert len(told(transport)) == (good - 1) * 256
        assert 15 <= len(engine.asked) <= 60  # patiently, and not at all rarely
        await publish(hub, "g", 2)
        engine.failure = None
        await trio.sleep(LONGEST_PAUSE + 1)
        assert told(transport) == list(range(1, MANY + 3))


async def test_its_other_groups_are_told_meanwhile(hub: Hub, autojump_clock: Clock) -> None:
    await lose(hub, EngineUnavailable("away"))
    async with visitor(hub, "g", "other") as transport:
        await trio.sleep(10)
        for _ in range(3):
            await publish(hub, "other", 1)
            await trio.testing.wait_all_tasks_blocked()
        assert [entry.group for entry in transport.received] == ["other"] * 3


async def test_questions_are_seldom_while_it_lasts_and_soon_again_later(hub: Hub, autojump_clock: Clock) -> None:
    engine = await lose(hub, EngineUnavailable("away"))
    async with visitor(hub, "g"):
        await trio.sleep(100)
        waits = [later - sooner for sooner, later in zip(engine.asked, engine.asked[1:], strict=False)]
        assert waits[0] <= 0.25
        assert LONGEST_PAUSE / 2 <= min(waits[10:]) <= max(waits) <= LONGEST_PAUSE
        assert len(set(waits[10:])) > 10  # those who wait together do not ask together
        engine.good, engine.asked[:] = 1, []
        await trio.sleep(LONGEST_PAUSE + 1)
        assert engine.asked[1] - engine.asked[0] <= 0.25


def fetches(seed: int) -> dict[str, list[float]]:
    """Let twenty groups ask for what they have not heard of, in vain for 100 s; returns when each of them asked."""

    async def fetch() -> dict[str, list[float]]:
        engine = DistantEngine(Settings())
        engine.failure = EngineUnavailable("away")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                source = Source(engine, f"g{number}", Settings())
                nursery.start_soon(source.fetch, 0, 10)
            await trio.sleep(100)
            engine.failure = None
            with trio.fail_after(LONGEST_PAUSE):
                while nursery.child_tasks:
                    await trio.sleep(0.01)
        return engine.asked_by

    return run_seeded(fetch, seed=seed)


def test_groups_that_miss_messages_ask_ever_less_often_and_not_all_together() -> None:
    asked = fetches(seed=1)
    assert len(asked) == 20
    for times in asked.values():
        waits = [later - sooner for sooner, later in pairwise(times)]
        assert waits[0] <= FIRST_PAUSE
        assert LONGEST_PAUSE / 2 <= min(waits[10:]) <= max(waits) <= LONGEST_PAUSE
    assert len({times[-1] for times in asked.values()}) == 20


def test_a_seed_replays_the_pauses_too() -> None:
    assert fetches(seed=1) == fetches(seed=1) != fetches(seed=2)


async def test_who_leaves_or_goes_meanwhile_asks_no_more(hub: Hub, autojump_clock: Clock) -> None:
    engine = await lose(hub, EngineUnavailable("away"))
    async with open_connection(hub, MemoryTransport(RAW), ["g"], {"g": OLDEST}) as connection:
        await trio.sleep(10)
        await connection.leave("g")
        asked = len(engine.asked)
        await trio.sleep(10)
        assert len(engine.asked) == asked
    assert hub.groups == 0


async def test_who_falls_too_far_behind_what_is_published_meanwhile_is_ended_as_the_policy_says(
    autojump_clock: Clock,
) -> None:
    async with running_hub(
        DistantEngine, history_size=1000, history_ttl=3600.0, policy=Policy.DISCONNECT, max_lag=5
    ) as hub:
        await lose(hub, EngineUnavailable("away"))
        async with visitor(hub, "g") as transport:
            await trio.sleep(1)
            await publish(hub, "g", 6)
            await trio.sleep(1)
            assert isinstance(transport.closed, Close)
            assert transport.closed.code == 1013
            assert hub.meters.evicted[Eviction.TOO_SLOW] == 1


async def test_joins_during_an_outage_are_refused_with_a_line_each(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    engine_of(hub).closed = True
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match="'g' could not be joined"):
            await hub.join("g", Recorder())
    assert [(each.levelno, each.exc_info) for each in caplog.records] == [(logging.WARNING, None)] * 3
    assert caplog.records[0].message == "group can't be opened: the server can't be reached"
    assert hub.groups == 0
