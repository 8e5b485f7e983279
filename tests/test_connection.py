"""One connection over an in-memory transport: how it begins, what its handler may do, and every way it ends."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.handled import Body, Handled, forever, running_hub
from triocast import Connection, ConnectionEnded, TooManyConnections
from triocast.connection import open_connection
from triocast.testing import MemoryTransport


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
