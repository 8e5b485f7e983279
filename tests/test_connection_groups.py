"""The groups of one connection over an in-memory transport: joining and leaving, what they bring, and in what order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.handled import Handled, forever, running_hub
from triocast import Connection, ConnectionEnded, Draft, Gap, Message, Policy, Settings, TooManyGroups
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.core.wire import JSON, Joined, Presence
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.testing import MemoryTransport


async def test_messages_of_groups_reach_the_transport_in_order(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    await connection.join("a")
    for count in range(10):
        await hub.publish("a", Draft.of(count))
    await trio.testing.wait_all_tasks_blocked()
    assert [entry.offset for entry in transport.received if isinstance(entry, Message)] == list(range(1, 11))


async def test_joining_and_leaving_twice_is_harmless_and_no_message_comes_twice(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    async with trio.open_nursery() as joins:
        for _ in range(3):
            joins.start_soon(connection.join, "a")
    await connection.join("a")
    await hub.publish("a", Draft.of("once"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(transport.received) == 1
    await connection.leave("a")
    await connection.leave("a")
    await hub.publish("a", Draft.of("nobody"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(transport.received) == 1
    assert hub.groups == 0


async def test_left_while_joining_it_has_not_joined(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)

    async def join() -> None:
        await connection.join("a")

    async with trio.open_nursery() as both:
        both.start_soon(join)
        both.start_soon(connection.leave, "a")
    await trio.testing.wait_all_tasks_blocked()
    await connection.leave("a")
    assert connection.groups == []
    assert hub.groups == 0


async def test_gone_while_joining_it_has_not_joined(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()

    async def body(connection: Connection) -> None:
        transport.vanish()
        with pytest.raises(ConnectionEnded):
            while True:
                await connection.join("a")
                await connection.leave("a")

    handled = Handled(hub, transport, body)
    await nursery.start(handled.run)
    await trio.testing.wait_all_tasks_blocked()
    assert hub.groups == 0


async def test_a_group_left_and_joined_anew_while_it_is_being_joined_is_joined_once() -> None:
    class Slow(MemoryEngine):
        go = trio.Event()

        async def read(self, group: str, after: int, limit: int) -> Page:
            await self.go.wait()
            return await super().read(group, after, limit)

    settings = Settings()
    hub = Hub(settings, engine := Slow(settings))
    transport = MemoryTransport(JSON)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await hub.publish("g", Draft.of("x"))
        async with open_connection(hub, transport) as connection, trio.open_nursery() as joins:
            joins.start_soon(connection.join, "g", OLDEST)
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("g")
            joins.start_soon(connection.join, "g", OLDEST)
            await trio.testing.wait_all_tasks_blocked()
            engine.go.set()
            await trio.testing.wait_all_tasks_blocked()
            assert (await hub.info("g")).subscribers == 1
            assert [type(told) for told in transport.received] == [Joined, Message]
        hub.stop()


async def test_a_join_that_comes_to_its_end_too_late_does_not_end_the_presence_of_the_one_after_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class SlowOnce(MemoryEngine):
        go = trio.Event()
        asked = 0

        async def read(self, group: str, after: int, limit: int) -> Page:
            self.asked += 1
            if self.asked == 1:
                await self.go.wait()
            return await super().read(group, after, limit)

    settings = Settings()
    hub = Hub(settings, engine := SlowOnce(settings))
    transport = MemoryTransport(JSON)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await hub.publish("g", Draft.of("x"))
        async with open_connection(hub, transport, presence=True) as connection, trio.open_nursery() as joins:
            joins.start_soon(connection.join, "g", OLDEST)
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("g")
            await connection.join("g")  # is through before the first
            engine.go.set()
            await trio.testing.wait_all_tasks_blocked()
            async with open_connection(hub, MemoryTransport(), ["g"]) as other:
                await trio.sleep(1)
                told = [each for each in transport.received if isinstance(each, Presence)]
                assert other.id in [member.client for each in told for member in each.joined]
        hub.stop()


async def test_a_stalled_client_that_comes_and_goes_leaves_nothing_to_do_behind(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Found by the simulation: subscriptions that had ended stayed in the writer's queue while it was stuck."""
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    transport.stall()
    for _ in range(20):
        await connection.join("a")
        await hub.publish("a", Draft.of("x"))
        await trio.testing.wait_all_tasks_blocked()
        await connection.leave("a")
    assert len(connection._outbound) == 0


async def test_too_many_groups_is_an_error_that_names_the_limit(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery, max_groups_per_connection=2), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    await connection.join("a")
    await connection.join("b")
    await connection.join("a")
    with pytest.raises(TooManyGroups, match="2 groups"):
        await connection.join("c")


async def test_a_message_for_one_client_takes_its_turn_between_those_of_groups(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    await connection.join("a")
    transport.stall()
    for count in range(3):
        await hub.publish("a", Draft.of(bytes(70_000) + bytes([count])))
    nursery.start_soon(connection.send, "private")
    await trio.testing.wait_all_tasks_blocked()
    transport.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert len(transport.received) == 4
    assert transport.received.index("private") == 1  # behind the one write that was under way, not the backlog


async def test_a_broken_write_ends_the_membership_at_once(nursery: trio.Nursery) -> None:
    class Broken(MemoryTransport):
        async def send(self, entries: Sequence[Message | Gap]) -> None:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError

    hub, transport = await running_hub(nursery), Broken()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    await connection.join("a")
    await hub.publish("a", Draft.of("x"))
    await trio.testing.wait_all_tasks_blocked()
    assert hub.groups == 0


async def test_an_evicted_client_is_told_why_and_the_others_go_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await running_hub(nursery, policy=Policy.DISCONNECT, max_lag=5, close_timeout=5.0)
    slow, fast = MemoryTransport(), MemoryTransport()
    for transport in (slow, fast):
        await (await nursery.start(Handled(hub, transport, forever).run)).join("a")
    slow.stall()
    for count in range(8):
        await hub.publish("a", Draft.of(count))
    assert (await hub.info("a")).subscribers == 1
    slow.resume()
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert slow.closed is not None
    assert slow.closed.code == 1013
    assert len(fast.received) == 8
