"""The suite that every engine passes: what members see and publishers are told, whatever the delivery.

Engines in memory run on a virtual clock, those on a server on the real one; no test waits for time to pass on that.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import trio
import trio.testing

from tests.engines.every import MakeEngine, covered, eventually, member, running, seen
from tests.engines.unkind import UnkindEngine
from triocast import (
    Draft,
    Gap,
    GapReason,
    IdempotencyConflict,
    Message,
    Position,
    Receipt,
    Settings,
)
from triocast.engines import Page
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.testing import MemoryTransport


async def test_members_get_every_offset_once_and_in_order(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings(history_size=1000)
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    clients = [MemoryTransport() for _ in range(3)]
    for client in clients:
        await nursery.start(member, hub, "g", client)
    async with trio.open_nursery() as publishers:
        for publisher in range(4):
            for count in range(25):
                publishers.start_soon(hub.publish, "g", Draft.of(f"{publisher}:{count}"))
    for client in clients:
        await eventually(lambda client=client: len(client.received) >= 100)  # type: ignore[misc]
        assert seen(client) == list(range(1, 101))
    assert clients[0].received == clients[1].received == clients[2].received


async def test_what_history_lost_is_named_by_a_gap_in_its_place(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings(history_size=0)
    engine = make_engine(settings)
    hub = Hub(settings, engine)
    await nursery.start(hub.run)
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    for count in range(60):
        await hub.publish("g", Draft.of(count))
    await eventually(lambda: len(covered(client)) >= 60)
    assert covered(client) == list(range(1, 61))
    gaps = [entry for entry in client.received if isinstance(entry, Gap)]
    assert all(gap.reason is GapReason.LOST for gap in gaps)
    assert bool(gaps) == (engine.name == "unkind")


async def test_receipts_tell_position_and_audience(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    first = await hub.publish("g", Draft.of("before anyone came"))
    assert (first.offset, first.subscribers, first.behind) == (1, 0, 0)
    await nursery.start(member, hub, "g", MemoryTransport())
    await nursery.start(member, hub, "g", MemoryTransport())
    second = await hub.publish("g", Draft.of("to two"))
    if second.approximate:  # counts of all processes, which come later
        assert (second.epoch, second.offset) == (first.epoch, 2)
    else:
        assert second == Receipt("g", first.epoch, 2, 2, 0)


async def test_a_newcomer_gets_what_comes_after_it_joined(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    for count in range(5):
        await hub.publish("g", Draft.of(count))
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    await hub.publish("g", Draft.of("new"))
    await eventually(lambda: client.received)
    assert seen(client) == [6]


async def test_groups_do_not_mix(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    clients = {name: MemoryTransport() for name in "abc"}
    for name, client in clients.items():
        await nursery.start(member, hub, name, client)
    order = list("abc" * 20)
    Random(1).shuffle(order)
    for name in order:
        await hub.publish(name, Draft.of(name))
    for name, client in clients.items():
        await eventually(lambda client=client: len(client.received) >= 20)  # type: ignore[misc]
        assert [entry.data.decode() for entry in client.received if isinstance(entry, Message)] == [name] * 20


async def test_a_publish_cancelled_while_the_inbox_is_full_was_not_published(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings()), nursery)
    inbox = Inbox(2)
    published = 0

    async def publish() -> None:
        nonlocal published
        while True:  # however many places an engine has on the way
            await engine.publish("g", Draft.of(published))
            published += 1

    async with engine.subscribe("g", inbox):
        async with trio.open_nursery() as publishing:
            publishing.start_soon(publish)
            if clock is None:
                await eventually(lambda: inbox._places.statistics().tasks_waiting)
            else:
                await trio.sleep(5)
            publishing.cancel_scope.cancel()
        assert (await engine.position("g")).offset == published
        inbox.close()


async def test_history_is_read_oldest_first_after_an_offset(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings(history_size=10)), nursery)
    positions = [(await engine.publish("g", Draft.of(count))).position for count in range(15)]
    assert [position.offset for position in positions] == list(range(1, 16))
    page = await engine.read("g", after=0, limit=4)
    assert page.position == positions[-1]
    assert [message.offset for message in page.messages] == [6, 7, 8, 9]
    rest = await engine.read("g", after=13, limit=100)
    assert [message.position for message in rest.messages] == positions[-2:]
    assert [message.data for message in rest.messages] == [b"13", b"14"]


async def test_history_is_read_back_newest_first_before_an_offset(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings(history_size=10)), nursery)
    positions = [(await engine.publish("g", Draft.of(count))).position for count in range(15)]
    page = await engine.read_back("g", before=None, limit=4)
    assert page.position == positions[-1]
    assert [message.position for message in page.messages] == positions[:-5:-1]
    assert [message.data for message in page.messages] == [b"14", b"13", b"12", b"11"]
    for before in (16, 1000):
        same = await engine.read_back("g", before=before, limit=4)
        assert [message.position for message in same.messages] == positions[:-5:-1]
    rest = await engine.read_back("g", before=9, limit=100)
    assert (rest.position, [message.offset for message in rest.messages]) == (positions[-1], [8, 7, 6])
    assert (await engine.read_back("g", before=6, limit=100)).messages == ()


async def test_an_unknown_group_has_no_position_and_looking_at_it_makes_none(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings()), nursery)
    for _ in range(2):
        assert await engine.position("nobody") == Position("", 0)
        assert await engine.read("nobody", 0, 10) == Page(Position("", 0), ())
        assert await engine.read_back("nobody", None, 10) == Page(Position("", 0), ())


async def test_a_group_keeps_history_and_position_for_their_times_without_members_and_no_longer(
    make_timed_engine: MakeEngine, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(history_ttl=60.0, position_ttl=1000.0)
    hub = Hub(settings, make_timed_engine(settings))
    await nursery.start(hub.run)
    async with trio.open_nursery() as stay:
        await stay.start(member, hub, "g", MemoryTransport())
        await trio.sleep(5000)  # as long as there are members nothing is forgotten but messages
        receipt = await hub.publish("g", Draft.of("kept"))
        stay.cancel_scope.cancel()
    published = Position(receipt.epoch, receipt.offset)
    assert hub.groups == 0
    left = trio.current_time()
    await trio.sleep(55)  # an engine may have taken some seconds to deliver it
    for reverse in (False, True):
        page = await hub.history("g", reverse=reverse)
        assert [message.position for message in page.messages] == [published]
    await trio.sleep(5)
    told = await hub.history("g", Position(published.epoch, 0))
    assert (told.messages, told.gap) == ((), Gap("g", published.epoch, 1, 1, GapReason.LOST))
    await trio.sleep_until(left + 999)
    assert (await hub.history("g")).position == published  # reading has not prolonged it
    await trio.sleep_until(left + 1002)
    assert (await hub.history("g")).position == Position("", 0)
    afresh = await hub.publish("g", Draft.of("afresh"))
    assert (afresh.epoch != published.epoch, afresh.offset) == (True, 1)
    told = await hub.history("g", published)
    assert told.gap == Gap("g", afresh.epoch, 1, 0, GapReason.EPOCH, before=published.epoch)
    assert [message.offset for message in told.messages] == [1]


async def test_a_member_that_comes_back_in_time_finds_the_position_it_left(
    make_timed_engine: MakeEngine, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(history_ttl=10.0, position_ttl=100.0)
    hub = Hub(settings, make_timed_engine(settings))
    await nursery.start(hub.run)
    first = await hub.publish("g", Draft.of("x"))
    for _ in range(5):  # each time the position's time begins again
        await trio.sleep(90)
        async with trio.open_nursery() as stay:
            await stay.start(member, hub, "g", MemoryTransport())
            stay.cancel_scope.cancel()
    await trio.sleep(90)
    assert (await hub.info("g")).epoch == first.epoch
    assert (await hub.publish("g", Draft.of("y"))).offset == 2


async def test_the_unkind_engine_is_unkind(autojump_clock: trio.testing.MockClock) -> None:
    """The suite proves nothing if its worst engine behaves."""
    settings = Settings(inbox=1000)
    engine = UnkindEngine(settings, seed=0)
    inbox = Inbox(5000)
    got: list[int] = []
    async with engine.subscribe("g", inbox):
        for count in range(500):
            await engine.publish("g", Draft.of(count))
            await trio.sleep(0.1)
        got.extend(item.offset for item in await inbox.take() if isinstance(item, Message))
    assert got != sorted(got)
    assert len(set(got)) < len(got)
    assert engine.lost > 0
    assert set(range(1, 400)) - set(got)


async def test_of_all_with_one_idempotency_key_a_group_is_given_one(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    receipts: list[Receipt] = []

    async def publish() -> None:
        receipts.append(await hub.publish("g", Draft.of("paid", idempotency_key="order-7")))

    async with trio.open_nursery() as publishers:
        for _ in range(5):
            publishers.start_soon(publish)
    await publish()
    assert len({replace(receipt, repeated=False) for receipt in receipts}) == 1
    assert sorted(receipt.repeated for receipt in receipts) == [False, *[True] * 5]
    for other in (Draft.of("unpaid", idempotency_key="order-7"), Draft.of(b"paid", idempotency_key="order-7")):
        with pytest.raises(IdempotencyConflict):
            await hub.publish("g", other)
    assert (await hub.publish("another", Draft.of("unpaid", idempotency_key="order-7"))).offset == 1
    assert (await hub.publish("g", Draft.of("paid"))).offset == 2
    await eventually(lambda: len(seen(client)) >= 2)
    assert seen(client) == [1, 2]
