"""Publishing on the condition that the group is where its publisher has seen it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from triocast import (
    Draft,
    IdempotencyConflict,
    InvalidPosition,
    Overloaded,
    Policy,
    Position,
    Settings,
    Triocast,
    UnexpectedPosition,
)
from triocast.connection import open_connection
from triocast.core.positions import is_expected
from triocast.core.recovery import OLDEST
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.testing import MemoryTransport, simulate


@asynccontextmanager
async def running(**values: Any) -> AsyncIterator[Hub]:
    settings = Settings(**values)
    hub = Hub(settings, MemoryEngine(settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("expected", "newest", "met"),
    [
        (Position("e", 3), Position("e", 3), True),
        (Position("e", 3), Position("e", 4), False),
        (Position("e", 3), Position("f", 3), False),
        (Position("e", 0), Position("e", 0), True),
        (Position("e", 0), OLDEST, False),
        (OLDEST, OLDEST, True),
        (OLDEST, Position("e", 0), True),
        (OLDEST, Position("e", 1), False),
    ],
)
def test_where_a_group_is_expected(expected: Position, newest: Position, met: bool) -> None:
    assert is_expected(expected, newest) == met


async def test_the_error_says_where_the_group_is_and_that_can_be_expected() -> None:
    async with running() as hub:
        with pytest.raises(UnexpectedPosition, match=r"^g has nothing published to it \(0\), not at e:7: nothing was"):
            await hub.publish("g", Draft.of("x", expected=Position("e", 7)))
        first = await hub.publish("g", Draft.of("x"))
        with pytest.raises(UnexpectedPosition, match=f"^g is at {first.epoch}:1, not at 0: nothing was") as moved:
            await hub.publish("g", Draft.of("y", expected=OLDEST))
        assert (moved.value.status, moved.value.code, moved.value.temporary) == (409, "unexpected_position", False)
        assert (await hub.publish("g", Draft.of("y", expected=moved.value.position))).offset == 2


async def test_a_group_that_was_forgotten_has_begun_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with running(position_ttl=10.0, history_ttl=5.0) as hub:
        first = await hub.publish("g", Draft.of("x"))
        await trio.sleep(12)
        with pytest.raises(UnexpectedPosition) as forgotten:
            await hub.publish("g", Draft.of("y", expected=Position(first.epoch, 1)))
        assert forgotten.value.position == OLDEST
        again = await hub.publish("g", Draft.of("y", expected=OLDEST))
        assert (again.offset, again.epoch == first.epoch) == (1, False)


async def test_it_is_judged_when_it_has_its_place_and_gives_that_back(nursery: trio.Nursery) -> None:
    engine = MemoryEngine(Settings())
    inbox = Inbox(2)
    async with engine.subscribe("g", inbox) as start:
        for _ in range(2):
            await engine.publish("g", Draft.of("x"))
        outcomes: list[Position] = []

        async def publish(expected: Position) -> None:
            try:
                await engine.publish("g", Draft.of("y", expected=expected))
            except UnexpectedPosition as error:
                outcomes.append(error.position)

        nursery.start_soon(publish, Position(start.epoch, 2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(publish, Position(start.epoch, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert (outcomes, (await engine.position("g")).offset) == ([], 2)
        await inbox.take()
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == [Position(start.epoch, 3)]  # the first has passed, and the second came too late
        await inbox.take()
        for _ in range(2):  # as many places as before
            inbox._places.acquire_nowait()


async def test_a_publisher_held_up_by_a_slow_member_is_judged_when_it_passes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(policy=Policy.BLOCK, max_lag=2, block_timeout=5.0) as hub:
        client = MemoryTransport()
        async with open_connection(hub, client, ["g"]):
            client.stall()
            for _ in range(2):
                last = await hub.publish("g", Draft.of("x"))
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Overloaded):  # it waits for its turn, whatever it expects
                await hub.publish("g", Draft.of("y", expected=OLDEST))
            outcome: dict[str, object] = {}

            async def publish(name: str, expected: Position) -> None:
                try:
                    outcome[name] = (await hub.publish("g", Draft.of("y", expected=expected))).offset
                except UnexpectedPosition as error:
                    outcome[name] = error.position

            for name in ("first", "second"):
                nursery.start_soon(publish, name, Position(last.epoch, last.offset))
                await trio.testing.wait_all_tasks_blocked()
            client.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert outcome == {"first": 3, "second": Position(last.epoch, 3)}


async def test_of_those_who_wait_for_one_key_the_next_is_judged_by_its_own_expectation() -> None:
    async with running() as hub:
        outcomes: list[object] = []

        async def publish(expected: Position) -> None:
            try:
                draft = Draft.of("x", idempotency_key="k", expected=expected)
                outcomes.append((await hub.publish("g", draft)).repeated)
            except UnexpectedPosition:
                outcomes.append("unexpected")

        async with trio.open_nursery() as publishers:
            for expected in (Position("e", 1), OLDEST, Position("e", 2)):
                publishers.start_soon(publish, expected)
        assert outcomes.count(False) == 1
        assert hub.idempotency_keys == 1
        with pytest.raises(IdempotencyConflict):
            await hub.publish("g", Draft.of("y", idempotency_key="k", expected=Position("e", 1)))


async def test_in_code_positions_are_given_as_they_are_or_as_text() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    async with simulate(app):
        group = push.group("g")
        first = await group.send(1, expected="0")
        second = await group.send(2, expected=f"{first.epoch}:1")
        third = await group.send(3, expected=Position(second.epoch, 2))
        assert third.offset == 3
        with pytest.raises(UnexpectedPosition) as moved:
            await group.send(3, expected="0")
        assert moved.value.position == Position(first.epoch, 3)
        with pytest.raises(InvalidPosition):
            await group.send(3, expected="3")
