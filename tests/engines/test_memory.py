from __future__ import annotations

import pytest
import trio
import trio.testing

from triocast import Draft, GroupSettings, Settings
from triocast.engines.memory import MemoryEngine
from triocast.inbox import Inbox


def engine_with(**values: object) -> MemoryEngine:
    epochs = iter(f"epoch{number}" for number in range(100_000))
    return MemoryEngine(Settings(**values), new_epoch=lambda: next(epochs))  # type: ignore[arg-type]


async def test_messages_are_kept_for_history_ttl_and_no_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    engine = engine_with(history_ttl=60.0)
    await nursery.start(engine.run)
    await engine.publish("g", Draft.of("x"))
    await trio.sleep(59)
    assert len((await engine.read("g", 0, 10)).messages) == 1
    await trio.sleep(3)
    assert "history 0 bytes" in repr(engine)
    assert (await engine.read("g", 0, 10)).messages == ()


async def test_a_position_outlives_members_and_messages(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    engine = engine_with(position_ttl=1000.0)
    await nursery.start(engine.run)
    async with engine.subscribe("g", Inbox(10)):
        await engine.publish("g", Draft.of("x"))
        await trio.sleep(5000)
    await trio.sleep(999)
    assert (await engine.publish("g", Draft.of("y"))).position == (await engine.position("g"))
    assert str(await engine.position("g")) == "epoch0:2"
    await trio.sleep(1002)
    assert repr(engine) == "<MemoryEngine 0 groups, 0 active, history 0 bytes>"
    assert str((await engine.publish("g", Draft.of("z"))).position) == "epoch1:1"


async def test_a_position_over_its_time_is_not_used_even_before_it_is_swept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = engine_with(position_ttl=10.0)
    await engine.publish("g", Draft.of("x"))
    await trio.sleep(11)
    assert str((await engine.publish("g", Draft.of("y"))).position) == "epoch1:1"


async def test_what_is_over_its_time_is_not_shown_even_before_it_is_swept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    engine = engine_with(history_ttl=5.0, position_ttl=10.0)
    await engine.publish("g", Draft.of("x"))
    await trio.sleep(4.5)
    assert len((await engine.read("g", 0, 10)).messages) == len((await engine.read_back("g", None, 10)).messages) == 1
    await trio.sleep(0.5)
    assert (await engine.read("g", 0, 10)).messages == (await engine.read_back("g", None, 10)).messages == ()
    await trio.sleep(4.5)
    assert str(await engine.position("g")) == "epoch0:1"
    await trio.sleep(0.5)
    assert [(await engine.position("g")).epoch, (await engine.read("g", 0, 10)).position.epoch] == ["", ""]
    assert repr(engine) == "<MemoryEngine 0 groups, 0 active, history 0 bytes>"


async def test_groups_that_fall_silent_give_their_memory_back_each_after_its_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    engine = engine_with(history_ttl=10.0, namespaces={"long": GroupSettings(history_ttl=100.0)})
    await nursery.start(engine.run)
    for name in ("long:a", "a", "b"):
        await engine.publish(name, Draft.of(b"x" * 936))
    assert "history 3000 bytes" in repr(engine)
    await trio.sleep(12)
    assert "history 1000 bytes" in repr(engine)
    await trio.sleep(90)
    assert "history 0 bytes" in repr(engine)


async def test_at_most_max_groups_positions_are_remembered_the_longest_unused_goes() -> None:
    engine = engine_with(max_groups=3)
    for name in ("a", "b", "c", "a", "d"):
        await engine.publish(name, Draft.of("x"))
    assert (await engine.position("b")).offset == 0
    assert (await engine.position("a")).offset == 2
    assert repr(engine).startswith("<MemoryEngine 3 groups")


async def test_a_group_with_members_is_never_forgotten() -> None:
    engine = engine_with(max_groups=1)
    async with engine.subscribe("g", Inbox(10)):
        await engine.publish("g", Draft.of("x"))
        for number in range(5):
            await engine.publish(f"other{number}", Draft.of("x"))
        assert str(await engine.position("g")) == "epoch0:1"


async def test_history_of_all_groups_together_is_bounded() -> None:
    engine = engine_with(history_memory=10_000)
    for number in range(100):
        await engine.publish(f"g{number}", Draft.of(b"x" * 936))
    kept = [number for number in range(100) if (await engine.read(f"g{number}", 0, 1)).messages]
    assert kept == list(range(90, 100))
    assert (await engine.position("g0")).offset == 1


async def test_a_namespace_keeps_its_own_history() -> None:
    engine = engine_with(namespaces={"long": GroupSettings(history_size=5), "none": GroupSettings(history_size=0)})
    for name in ("long:a", "none:a"):
        for count in range(9):
            await engine.publish(name, Draft.of(count))
    assert len((await engine.read("long:a", 0, 100)).messages) == 5
    assert len((await engine.read("none:a", 0, 100)).messages) == 0


async def test_accounts_stay_right_through_publishing_reading_and_expiry(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    engine = engine_with(history_ttl=5.0, namespaces={"long": GroupSettings(history_ttl=50.0)})
    await nursery.start(engine.run)
    for count in range(200):
        await engine.publish(f"g{count % 7}", Draft.of("x" * count))
        await engine.publish(f"long:{count % 3}", Draft.of("x" * count))
        await engine.read(f"g{count % 5}", 0, 10)
        await trio.sleep(0.3)
    await trio.sleep(60)
    assert "history 0 bytes" in repr(engine)


async def test_waiting_publishers_are_served_in_their_order(nursery: trio.Nursery) -> None:
    engine = engine_with()
    inbox = Inbox(1)
    order: list[int] = []

    async def publish(number: int) -> None:
        await engine.publish("g", Draft.of(number))
        order.append(number)

    async with engine.subscribe("g", inbox):
        for number in range(5):
            nursery.start_soon(publish, number)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            await inbox.take()
            await trio.testing.wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3, 4]


async def test_a_publisher_waiting_for_a_group_that_ends_is_served_by_what_is_left(
    nursery: trio.Nursery,
) -> None:
    engine = engine_with()
    inbox = Inbox(1)
    done = trio.Event()

    async def publish() -> None:
        await engine.publish("g", Draft.of("second"))
        done.set()

    async with engine.subscribe("g", inbox):
        await engine.publish("g", Draft.of("first"))
        nursery.start_soon(publish)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        inbox.close()
    with trio.fail_after(5):
        await done.wait()
    assert (await engine.position("g")).offset == 2


@pytest.mark.parametrize("places", [1, 3])
async def test_an_inbox_gives_places_back(places: int) -> None:
    inbox = Inbox(places)
    for _ in range(5):
        for _ in range(places):
            await inbox.reserve()
        with trio.CancelScope() as scope:
            scope.cancel()
            await inbox.reserve()
        for _ in range(places):
            inbox.release()
    assert repr(inbox) == f"<Inbox 0 of {places}>"
