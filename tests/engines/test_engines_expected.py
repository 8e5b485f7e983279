"""What every engine does about positions that are expected and connections that are excluded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.engines.every import MakeEngine, eventually, member, seen
from triocast import (
    Draft,
    Position,
    Settings,
    UnexpectedPosition,
)
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.core.wire import Delivered
from triocast.hub import Hub
from triocast.testing import MemoryTransport


async def test_what_is_expected_decides_whether_it_is_published(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)

    async def publish(expected: Position) -> Position:
        receipt = await hub.publish("g", Draft.of("x", expected=expected))
        return Position(receipt.epoch, receipt.offset)

    for elsewhere in (Position("e", 0), Position("e", 1), Position("", 1)):
        with pytest.raises(UnexpectedPosition) as unknown:
            await publish(elsewhere)
        assert unknown.value.position == Position("", 0)
    assert await hub.engine.position("g") == Position("", 0)  # asking has made no group
    first = await publish(OLDEST)
    second = await publish(first)
    assert second == Position(first.epoch, 2)
    for elsewhere in (OLDEST, Position(first.epoch, 0), first, Position(first.epoch, 3), Position("other", 2)):
        with pytest.raises(UnexpectedPosition) as moved:
            await publish(elsewhere)
        assert moved.value.position == second
    page = await hub.engine.read("g", 0, 10)
    assert (page.position, [each.offset for each in page.messages]) == (second, [1, 2])


async def test_the_beginning_is_expected_of_a_group_that_has_members_and_no_message(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    client = MemoryTransport()
    for group in ("by epoch", "by nothing"):
        await nursery.start(member, hub, group.replace(" ", "-"), client)
    at = await hub.engine.position("by-epoch")
    assert (bool(at.epoch), at.offset) == (True, 0)
    assert (await hub.publish("by-epoch", Draft.of("x", expected=at))).offset == 1
    assert (await hub.publish("by-nothing", Draft.of("x", expected=OLDEST))).offset == 1
    with pytest.raises(UnexpectedPosition):
        await hub.publish("by-epoch", Draft.of("x", expected=at))
    await eventually(lambda: len(client.received) >= 2)


async def test_a_repeat_is_answered_wherever_its_group_is_by_then(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    once = Draft.of("paid", idempotency_key="order-7", expected=OLDEST)
    first = await hub.publish("g", once)
    await hub.publish("g", Draft.of("meanwhile"))
    assert await hub.publish("g", once) == replace(first, repeated=True)
    assert await hub.publish("g", replace(once, exclude="another-one")) == replace(first, repeated=True)
    late = Draft.of("unpaid", idempotency_key="order-8", expected=OLDEST)
    with pytest.raises(UnexpectedPosition):
        await hub.publish("g", late)
    third = await hub.publish("g", replace(late, expected=Position(first.epoch, 2)))  # a refusal is not remembered
    assert (third.offset, third.repeated) == (3, False)


async def test_a_counter_counts_every_increment_once_however_many_race(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    refused = 0

    async def increment() -> None:
        nonlocal refused
        for _ in range(5):
            while True:
                page = await hub.engine.read_back("g", None, 1)
                value = int(page.messages[0].data) if page.messages else 0
                try:
                    await hub.publish("g", Draft.of(value + 1, expected=page.position))
                    break
                except UnexpectedPosition:
                    refused += 1

    async with trio.open_nursery() as racers:
        for _ in range(6):
            racers.start_soon(increment)
    page = await hub.engine.read("g", 0, 100)
    assert [int(each.data) for each in page.messages] == [*range(1, 31)]
    assert refused > 0


async def test_who_is_excluded_is_told_the_offset_in_the_place_of_the_message(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    author, other, later = MemoryTransport(), MemoryTransport(), MemoryTransport()
    await nursery.start(member, hub, "g", author)
    (connection,) = hub.roster
    await nursery.start(member, hub, "g", other)
    epoch = (await hub.engine.position("g")).epoch
    for number in range(1, 31):
        await hub.publish("g", Draft.of(number, exclude=connection.id if number % 3 == 0 else "nobody"))
    await eventually(lambda: len(author.received) >= 30 and len(other.received) >= 30)
    assert [each if isinstance(each, Delivered) else each.offset for each in author.received] == [  # type: ignore[union-attr]
        Delivered("g", epoch, number) if number % 3 == 0 else number for number in range(1, 31)
    ]
    assert seen(other) == [*range(1, 31)]
    page = await hub.engine.read("g", 27, 10)
    assert [each.exclude for each in page.messages] == ["nobody", "nobody", connection.id]

    async def come_back() -> None:
        async with open_connection(hub, later) as again:
            again.id = connection.id  # as if it had been in another group, and comes to this one with what it has
            await again.join("g", Position(epoch, 28))
            await trio.sleep_forever()

    nursery.start_soon(come_back)
    await eventually(lambda: len(later.received) >= 2)
    assert later.received[1] == Delivered("g", epoch, 30)
