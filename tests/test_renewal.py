"""A group's new epoch, while it has members: each is told in its place, and given what the engine keeps of that."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.test_told import publish, running_hub, told
from triocast import Draft, EngineUnavailable, Gap, GapReason, Message, Position, Settings
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.core.wire import JSON, RAW
from triocast.engines import Page, Published
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.testing import MemoryTransport


class ForgetfulEngine(MemoryEngine):
    """Begins a new epoch when it is told to, as a store does that lost its last writes; and can be out of reach."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.unreachable = 0  # fetches that fail

    def forget(self, group: str) -> None:
        inbox = self._inboxes[group]
        self._weight -= self._logs.pop(group).weight
        self._warm.pop(group, None)
        inbox.renew(self._log(group, trio.current_time()).position)

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        if self.unreachable:
            self.unreachable -= 1
            raise EngineUnavailable("the store is gone")
        return await super().fetch(group, after, limit)


class LossyEngine(ForgetfulEngine):
    """Delivers nothing by itself."""

    async def publish(self, group: str, draft: Draft) -> Published:
        inbox = self._inboxes.pop(group, None)
        try:
            return await super().publish(group, draft)
        finally:
            if inbox is not None:
                self._inboxes[group] = inbox


def engine_of(hub: Hub) -> ForgetfulEngine:
    assert isinstance(hub.engine, ForgetfulEngine)
    return hub.engine


async def test_members_are_told_and_go_on() -> None:
    async with running_hub(ForgetfulEngine) as hub:
        transport, raw = MemoryTransport(JSON), MemoryTransport(RAW)
        async with open_connection(hub, transport, ["g"]), open_connection(hub, raw, ["g"]):
            await publish(hub, "g", 2)
            before = (await hub.info("g")).epoch
            await trio.testing.wait_all_tasks_blocked()
            engine_of(hub).forget("g")
            await publish(hub, "g", 2)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", 1, 2, (1, 0), 1, 2]
            assert told(raw) == [1, 2, (1, 0), 1, 2]
            gap = transport.received[3]
            assert isinstance(gap, Gap)
            assert (gap.reason, gap.before, gap.epoch) == (GapReason.EPOCH, before, (await hub.info("g")).epoch)


async def test_what_was_published_in_the_new_epoch_before_it_was_told_is_recovered() -> None:
    async with running_hub(LossyEngine) as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g"]):
            engine = engine_of(hub)
            await engine.publish("g", Draft.of("a"))
            engine.forget("g")
            await trio.testing.wait_all_tasks_blocked()
            position = (await engine.publish("g", Draft.of("b"))).position
            engine.forget("g")
            await engine.publish("g", Draft.of("c"))
            engine._inboxes["g"].recall(1)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport)[-2:] == [(1, 0), 1]
            last = transport.received[-1]
            assert isinstance(last, Message)
            assert (last.data, last.epoch != position.epoch) == (b"c", True)


async def test_one_that_stalls_is_told_what_it_lost_of_the_old_epoch_first() -> None:
    async with running_hub(ForgetfulEngine) as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g"]):
            await publish(hub, "g", 1)
            await trio.testing.wait_all_tasks_blocked()
            transport.stall()
            await publish(hub, "g", 3)
            await trio.testing.wait_all_tasks_blocked()
            await publish(hub, "g", 3)
            engine_of(hub).forget("g")
            await publish(hub, "g", 1)
            await trio.testing.wait_all_tasks_blocked()
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", 1, (2, 7), (1, 0), 1]


async def test_one_that_recovers_is_told_from_where_it_was() -> None:
    async with running_hub(ForgetfulEngine) as hub:
        await publish(hub, "g", 5)
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["g"], {"g": OLDEST}):
            engine_of(hub).forget("g")
            await trio.testing.wait_all_tasks_blocked()
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", (1, 5), (1, 0)]


class SlowEngine(ForgetfulEngine):
    """Reads when it is told to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.go = trio.Event()
        self.go.set()

    async def read(self, group: str, after: int, limit: int) -> Page:
        page = await super().read(group, after, limit)
        await self.go.wait()
        return page


async def test_what_is_read_while_the_epoch_ends_is_not_given_as_well_as_called_lost() -> None:
    async with running_hub(SlowEngine) as hub:
        engine = hub.engine
        assert isinstance(engine, SlowEngine)
        await publish(hub, "g", 3)
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["g"], {"g": OLDEST}):
            engine.go = trio.Event()
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()  # reading the history of the old epoch
            reading, engine.go = engine.go, trio.Event()
            engine.go.set()
            engine.forget("g")
            await trio.testing.wait_all_tasks_blocked()
            reading.set()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", (1, 3), (1, 0)]


async def test_a_strict_client_is_closed_to_come_back() -> None:
    async with running_hub(ForgetfulEngine) as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g"], strict=True):
            await publish(hub, "g", 1)
            engine_of(hub).forget("g")
            await trio.sleep_forever()
        assert transport.closed is not None
        assert transport.closed.code == 4010


async def test_an_engine_out_of_reach_makes_members_wait_and_loses_them_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub(LossyEngine) as hub:
        transport = MemoryTransport(RAW)
        async with open_connection(hub, transport, ["g"]):
            engine = engine_of(hub)
            for _ in range(3):
                await engine.publish("g", Draft.of("x"))
            engine.unreachable = 5
            engine._inboxes["g"].recall(3)
            await trio.sleep(1)
            assert told(transport) == []
            await trio.sleep(10)  # five pauses, each up to twice the one before
            assert told(transport) == [1, 2, 3]


# The inbox's part in it


async def test_what_an_inbox_has_no_place_for_is_fetched() -> None:
    inbox = Inbox(2)
    engine = MemoryEngine(Settings())
    for _ in range(4):
        position = (await engine.publish("g", Draft.of("x"))).position
    for message in (await engine.read("g", 0, 10)).messages:
        inbox.offer(message)
    taken = await inbox.take()
    assert [item.offset for item in taken] == [1, 2, position.offset]  # type: ignore[union-attr]
    inbox.done(taken)
    assert (inbox.count, inbox.weight, len(inbox)) == (0, 0, 0)


async def test_a_new_epoch_makes_what_was_to_be_fetched_meaningless_and_one_notice_serves_for_many() -> None:
    inbox = Inbox(1)
    inbox.recall(7)
    inbox.renew(Position("a", 1))
    inbox.renew(Position("b", 2))
    inbox.recall(3)
    inbox.recall(2)
    taken = await inbox.take()
    assert [repr(item) for item in taken] == [
        "Renewal(position=Position(epoch='b', offset=2), weight=0)",
        "Recall(offset=3, weight=0)",
    ]
    inbox.done(taken)
    assert inbox.count == 0
    with pytest.raises(trio.TooSlowError), trio.fail_after(0):
        await inbox.take()
    inbox.close()
    inbox.recall(9)
    assert repr(inbox) == "<Inbox 0 of 1, closed>"
