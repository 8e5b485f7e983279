"""Groups by themselves: rounds, laggards, failures; the followers here are the simplest there can be."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from triocast import Draft, EngineError, Gap, GapReason, Message, Policy, Position, Settings
from triocast.core.wire import RAW
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.errors import CRASHED, Close
from triocast.group import Group
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.meters import Meters
from triocast.pins import Pins
from triocast.presence_rounds import PresenceRounds
from triocast.subscription import Subscription


class Recorder:
    """A follower that takes nothing until it is told to."""

    format = RAW
    outlet = None

    def __init__(self) -> None:
        self.id = secrets.token_hex(4)
        self.member = None
        self.woken: list[Subscription] = []
        self.closes: list[Close] = []

    def wake(self, subscription: Subscription) -> None:
        self.woken.append(subscription)

    def end(self, close: Close) -> None:
        self.closes.append(close)


async def running_hub(nursery: trio.Nursery, engine: MemoryEngine | None = None, **values: object) -> Hub:
    settings = Settings(**values)  # type: ignore[arg-type]
    hub = Hub(settings, engine if engine is not None else MemoryEngine(settings))
    await nursery.start(hub.run)
    return hub


async def test_a_parked_member_is_woken_once_however_much_comes(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    recorder = Recorder()
    subscription = await hub.join("g", recorder)
    for count in range(5):
        await hub.publish("g", Draft.of(count))
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.woken == [subscription]
    assert subscription.behind == 5
    assert repr(subscription) == "<Subscription 'g' at 0, 5 behind>"


async def test_a_member_that_caught_up_parks_and_is_woken_again(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    recorder = Recorder()
    subscription = await hub.join("g", recorder)
    await hub.publish("g", Draft.of("a"))
    await trio.testing.wait_all_tasks_blocked()
    assert [entry.data for entry in subscription.take(1000) if isinstance(entry, Message)] == [b"a"]
    assert subscription.settle()
    await hub.publish("g", Draft.of("b"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(recorder.woken) == 2
    assert not subscription.settle()


async def test_the_receipt_counts_who_was_still_busy(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    for _ in range(3):
        await hub.join("g", Recorder())
    first = await hub.publish("g", Draft.of("a"))
    await trio.testing.wait_all_tasks_blocked()
    second = await hub.publish("g", Draft.of("b"))
    assert (first.subscribers, first.behind) == (3, 0)
    assert (second.subscribers, second.behind) == (3, 3)
    info = await hub.info("g")
    assert (info.subscribers, info.offset, info.behind, info.policy) == (3, 2, 3, "drop_oldest")


async def test_drop_oldest_skips_what_a_laggard_missed_and_counts_it(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery, max_lag=10)
    recorder = Recorder()
    subscription = await hub.join("g", recorder)
    for count in range(25):
        await hub.publish("g", Draft.of(count))
    first = subscription.take(10**6)
    rest = subscription.take(10**6)
    assert first == [Gap("g", subscription.group.log.epoch, 1, 15, GapReason.SLOW)]
    assert [entry.offset for entry in rest if isinstance(entry, Message)] == list(range(16, 26))
    assert subscription.missed == subscription.group.dropped == 15
    assert recorder.closes == []


async def test_disconnect_ends_a_laggard_the_moment_it_lags_too_far(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery, max_lag=10, policy=Policy.DISCONNECT)
    laggard, other = Recorder(), Recorder()
    await hub.join("g", laggard)
    quick = await hub.join("g", other)
    for count in range(10):
        await hub.publish("g", Draft.of(count))
        await trio.testing.wait_all_tasks_blocked()
        quick.take(10**6)
        quick.settle()
    assert laggard.closes == []
    receipt = await hub.publish("g", Draft.of("one too many"))
    await trio.testing.wait_all_tasks_blocked()
    assert [close.code for close in laggard.closes] == [1013]
    assert "11 messages behind in g" in laggard.closes[0].reason
    assert other.closes == []
    assert (receipt.subscribers, receipt.behind) == (2, 1)
    assert (await hub.info("g")).subscribers == 1


async def test_a_member_that_left_gets_nothing_more(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    recorder = Recorder()
    subscription = await hub.join("g", recorder)
    await hub.join("g", Recorder())
    await hub.publish("g", Draft.of("a"))
    await trio.testing.wait_all_tasks_blocked()
    hub.leave(subscription)
    hub.leave(subscription)
    assert subscription.take(1000) == []
    assert subscription.settle()
    await hub.publish("g", Draft.of("b"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(recorder.woken) == 1
    assert (await hub.info("g")).subscribers == 1


async def test_the_last_to_leave_ends_the_group(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    subscription = await hub.join("g", Recorder())
    assert hub.groups == 1
    hub.leave(subscription)
    await trio.testing.wait_all_tasks_blocked()
    assert hub.groups == 0
    assert "0 active" in repr(hub.engine)
    assert repr(nursery.child_tasks).count("group g") == 0


async def test_a_long_round_lets_others_have_their_turn(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triocast.lanes.ROUND", 0.0)
    hub = await running_hub(nursery)
    recorders = [Recorder() for _ in range(2000)]
    subscriptions = [await hub.join("g", recorder) for recorder in recorders]
    turns: list[int] = []

    async def count_turns() -> None:
        while sum(len(recorder.woken) for recorder in recorders) < 2000:
            turns.append(sum(len(recorder.woken) for recorder in recorders))
            if len(turns) == 5:  # one that waits in the broadcaster's snapshot may leave meanwhile
                hub.leave(subscriptions[-1])
                recorders[-1].woken.append(subscriptions[-1])
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as tasks:
        tasks.start_soon(count_turns)
        await hub.publish("g", Draft.of("x"))
    assert len({turn for turn in turns if 0 < turn < 2000}) >= 10
    assert all(len(recorder.woken) == 1 for recorder in recorders)


class FailingEngine(MemoryEngine):
    """Fails where it is told to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.refuse = False
        self.inbox: Inbox | None = None

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        if self.refuse:
            raise OSError("no engine today")
        async with super().subscribe(group, inbox) as position:
            self.inbox = inbox
            yield position

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        raise OSError("the store is broken")


async def test_a_group_that_cannot_open_says_so_to_everyone_who_waits_and_is_forgotten(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FailingEngine(Settings())
    hub = await running_hub(nursery, engine)
    engine.refuse = True
    with pytest.raises(EngineError, match="'g' could not be joined") as caught:
        await hub.join("g", Recorder())
    assert isinstance(caught.value.__cause__, OSError)
    assert hub.groups == 0
    engine.refuse = False
    await hub.join("g", Recorder())
    assert hub.groups == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_group_that_crashes_closes_its_members_with_1011_and_nothing_else(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FailingEngine(Settings())
    hub = await running_hub(nursery, engine)
    member, bystander = Recorder(), Recorder()
    await hub.join("other", bystander)
    await hub.join("g", member)
    assert engine.inbox is not None
    engine.inbox.recall(1)
    await trio.testing.wait_all_tasks_blocked()
    assert member.closes == [CRASHED]
    assert bystander.closes == []
    assert hub.groups == 1
    assert "the store is broken" in caplog.text
    assert (await hub.publish("g", Draft.of("x"))).subscribers == 0


async def test_a_publisher_waiting_for_its_receipt_gets_it_when_the_group_ends(nursery: trio.Nursery) -> None:
    settings = Settings()
    group = Group("g", settings, MemoryEngine(settings), Pins(1), Meters(), PresenceRounds().arouse)
    forgotten: list[Group] = []
    nursery.start_soon(group.run, forgotten.append)
    await group.opened.wait()
    receipts = []

    async def wait() -> None:
        receipts.append(await group.receipt(Position(group.log.epoch, 99)))

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    group.retire()
    await trio.testing.wait_all_tasks_blocked()
    assert [receipt.offset for receipt in receipts] == [99]
    assert forgotten == [group]


async def test_joining_cancelled_leaves_no_group_behind(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    with trio.CancelScope() as scope:
        scope.cancel()
        await hub.join("g", Recorder())
    assert scope.cancelled_caught
    assert hub.groups == 0


async def test_a_hub_that_stops_tells_members_to_come_back(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    member = Recorder()
    await hub.join("g", member)
    hub.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert [close.code for close in member.closes] == [1012]
    assert not hub.running


async def test_groups_are_listed_by_name_a_page_at_a_time(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    for name in ("c", "a", "d", "b"):
        await hub.join(name, Recorder())
    assert [info.group for info in await hub.page(None, 3)] == ["a", "b", "c"]
    assert [info.group for info in await hub.page("c", 3)] == ["d"]
    assert await hub.page("d", 3) == []
