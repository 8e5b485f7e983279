"""One connection over an in-memory transport: how it begins, what its handler may do, and every way it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.lowlevel
import trio.testing

from triocast import (
    Connection,
    ConnectionEnded,
    Draft,
    Gap,
    Message,
    Policy,
    Settings,
    TooManyConnections,
    TooManyGroups,
)
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.core.wire import JSON, Joined
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.testing import MemoryTransport

Body = Callable[[Connection], Awaitable[None]]


async def running_hub(nursery: trio.Nursery, **values: object) -> Hub:
    settings = Settings(**values)  # type: ignore[arg-type]
    hub = Hub(settings, MemoryEngine(settings))
    await nursery.start(hub.run)
    return hub


class Handled:
    """A handler that ran: its connection, whether it came to the end of its function, and what it raised."""

    def __init__(self, hub: Hub, transport: MemoryTransport, body: Body) -> None:
        self.connection: Connection | None = None
        self.passed = False
        self.error: Exception | None = None
        self._hub, self._transport, self._body = hub, transport, body

    async def run(self, *, task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with open_connection(self._hub, self._transport) as connection:
                self.connection = connection
                task_status.started(connection)
                await self._body(connection)
            self.passed = True
        except ValueError as error:
            self.error = error


async def forever(connection: Connection) -> None:
    await trio.sleep_forever()


async def read_all(connection: Connection) -> None:
    async for _ in connection:
        pass


async def test_a_handler_that_returns_closes_its_client_with_1000_and_leaves_every_group(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()

    async def body(connection: Connection) -> None:
        await connection.join("a")
        await connection.join("b")
        assert connection.groups == ["a", "b"]

    handled = Handled(hub, transport, body)
    await handled.run()
    assert handled.passed
    assert transport.closed is not None
    assert (transport.closed.code, hub.connections, hub.groups) == (1000, 0, 0)
    assert handled.connection is not None
    assert handled.connection.ended


async def test_a_handler_that_raises_closes_its_client_with_1011_and_the_error_goes_on(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()

    async def body(connection: Connection) -> None:
        await connection.join("a")
        raise ValueError("a bug")

    handled = Handled(hub, transport, body)
    await handled.run()
    assert str(handled.error) == "a bug"
    assert transport.closed is not None
    assert (transport.closed.code, hub.connections, hub.groups) == (1011, 0, 0)


@pytest.mark.parametrize("body", [forever, read_all])
async def test_a_client_that_vanishes_ends_the_block_and_what_follows_runs(nursery: trio.Nursery, body: Body) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    handled = Handled(hub, transport, body)
    connection = await nursery.start(handled.run)
    await connection.join("a")
    transport.vanish()
    await trio.testing.wait_all_tasks_blocked()
    assert handled.passed
    assert (hub.connections, hub.groups) == (0, 0)
    assert transport.closed is None


async def test_what_a_client_said_before_it_left_is_still_read(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    heard: list[str | bytes] = []

    async def body(connection: Connection) -> None:
        async for data in connection:
            await trio.testing.wait_all_tasks_blocked()
            heard.append(data)

    handled = Handled(hub, transport, body)
    await nursery.start(handled.run)
    for data in ("a", "", b"", "z"):
        transport.say(data)
    transport.vanish(1000)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert heard == ["a", "", b"", "z"]
    assert handled.passed


async def test_a_handler_that_reads_but_does_not_end_is_ended_after_close_timeout(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub, transport = await running_hub(nursery, close_timeout=5.0), MemoryTransport()

    async def body(connection: Connection) -> None:
        async for _ in connection:
            pass
        await trio.sleep_forever()

    handled = Handled(hub, transport, body)
    await nursery.start(handled.run)
    transport.vanish()
    await trio.sleep(4.9)
    assert not handled.passed
    assert hub.groups == 0
    await trio.sleep(0.2)
    assert handled.passed


async def test_receive_raises_connection_ended_which_is_no_crash(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()

    async def body(connection: Connection) -> None:
        while True:
            await connection.receive()

    handled = Handled(hub, transport, body)
    await nursery.start(handled.run)
    transport.vanish()
    await trio.testing.wait_all_tasks_blocked()
    assert handled.passed
    assert handled.error is None


async def test_close_ends_the_block_with_the_code_and_the_reason(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    handled = Handled(hub, transport, forever)
    connection = await nursery.start(handled.run)
    await connection.join("a")
    await connection.close(4001, "é" * 100)
    await connection.close(1000, "too late")
    await trio.testing.wait_all_tasks_blocked()
    assert handled.passed
    assert transport.closed is not None
    assert (transport.closed.code, transport.closed.reason) == (4001, "é" * 61)
    assert connection.ended
    with pytest.raises(ConnectionEnded):
        await connection.send("x")
    with pytest.raises(ConnectionEnded):
        await connection.join("a")


async def test_a_client_that_does_not_take_its_close_is_cut_off(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub, transport = await running_hub(nursery, close_timeout=5.0), MemoryTransport()
    handled = Handled(hub, transport, forever)
    connection = await nursery.start(handled.run)
    transport.stall()
    await connection.close()
    await trio.sleep(4.9)
    assert not handled.passed
    await trio.sleep(0.2)
    assert handled.passed
    assert transport.closed is None
    assert hub.connections == 0


async def test_cancelled_from_outside_the_client_is_told_to_come_back(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    with trio.CancelScope() as scope:
        async with open_connection(hub, transport) as connection:
            await connection.join("a")
            scope.cancel()
            await trio.sleep_forever()
    assert transport.closed is not None
    assert (transport.closed.code, hub.connections, hub.groups) == (1012, 0, 0)


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


async def test_too_many_connections_is_an_error_that_names_the_limit(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery, max_connections=1)
    await nursery.start(Handled(hub, MemoryTransport(), forever).run)
    with pytest.raises(TooManyConnections, match="max_connections"):
        await Handled(hub, MemoryTransport(), forever).run()
    assert hub.connections == 1


async def test_a_client_nobody_listens_to_is_closed_when_its_queue_stays_full(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await running_hub(nursery, max_inbound=4, inbound_timeout=10.0)
    transport = MemoryTransport()
    handled = Handled(hub, transport, forever)
    await nursery.start(handled.run)
    for count in range(5):
        transport.say(str(count))
    await trio.sleep(9.9)
    assert transport.closed is None
    await trio.sleep(0.2)
    assert transport.closed is not None
    assert (transport.closed.code, handled.passed) == (1008, True)
    assert "faster" in transport.closed.reason


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


async def test_a_send_cancelled_halfway_ends_the_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    handled = Handled(hub, transport, forever)
    connection = await nursery.start(handled.run)
    transport.stall()
    with trio.CancelScope() as scope:
        nursery.start_soon(connection.send, "another")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await connection.send("half")
    assert not connection.ended  # it had only waited for its turn
    transport.resume()
    await trio.testing.wait_all_tasks_blocked()
    transport.stall()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as sender:
            sender.start_soon(connection.send, "half")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert connection.ended


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


async def test_draining_tells_everyone_and_refuses_newcomers(nursery: trio.Nursery) -> None:
    hub = await running_hub(nursery)
    transports = [MemoryTransport() for _ in range(250)]
    for transport in transports:
        await nursery.start(Handled(hub, transport, forever).run)
    await hub.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert {transport.closed.code for transport in transports if transport.closed} == {1012}
    assert hub.connections == 0
    with pytest.raises(Exception, match="shutting down"):
        await Handled(hub, MemoryTransport(), forever).run()


async def test_a_connection_tells_its_state(nursery: trio.Nursery) -> None:
    hub, transport = await running_hub(nursery), MemoryTransport()
    connection = await nursery.start(Handled(hub, transport, forever).run)
    await connection.join("a")
    assert repr(connection) == f"<Connection {connection.id} by memory, 1 groups, open>"
    assert repr(hub) == "<Hub running, 1 connections, 1 groups>"
    transport.vanish(4000)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(connection).endswith("gone 4000>")


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
