"""A server that leaves: who is told to go, when, and what the others are given meanwhile. On a virtual clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.testing

from tests.engines.unkind import UnkindEngine
from triocast import Connection, Draft, Message, Settings
from triocast.connection import open_connection
from triocast.engines.memory import MemoryEngine
from triocast.errors import RESTART, Close, ShuttingDown
from triocast.hub import Hub
from triocast.leaving import EASY_RATE, spread_of
from triocast.roster import PAUSE
from triocast.testing import MemoryTransport


class Timed(MemoryTransport):
    """A client that knows when it was told to go, and what it had been given by then."""

    def __init__(self) -> None:
        super().__init__()
        self.told_at: float | None = None
        self.given: list[bytes] = []

    async def close(self, close: Close) -> None:
        self.told_at = trio.current_time()
        self.given = [each.data for each in self.received if isinstance(each, Message)]
        await super().close(close)


class Elsewhere(MemoryEngine):
    """An engine that other processes could share."""

    name = "elsewhere"


async def hub_of(nursery: trio.Nursery, engine: type[MemoryEngine] = Elsewhere, **values: object) -> Hub:
    settings = Settings(**values)  # type: ignore[arg-type]
    hub = Hub(settings, engine(settings))
    await nursery.start(hub.run)
    return hub


async def clients_of(nursery: trio.Nursery, hub: Hub, count: int) -> list[Timed]:
    async def stay(client: Timed, *, task_status: trio.TaskStatus[Connection]) -> None:
        async with open_connection(hub, client, ["g"]) as connection:
            task_status.started(connection)
            await trio.sleep_forever()

    clients = [Timed() for _ in range(count)]
    for client in clients:
        await nursery.start(stay, client)
    return clients


def times(clients: list[Timed]) -> list[float]:
    found = [client.told_at for client in clients]
    assert None not in found
    return sorted(each for each in found if each is not None)


async def test_clients_are_told_evenly_over_the_spread_and_nobody_outside_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=4.0)
    clients = await clients_of(nursery, hub, 100)
    await trio.sleep(3)
    assert all(client.told_at is None for client in clients)
    begin = trio.current_time()
    await hub.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    told = times(clients)
    assert told[0] == begin
    assert told[-1] <= begin + 4.0
    assert all(abs((later - earlier) - 4.0 / 100) <= PAUSE for earlier, later in pairwise(told))
    assert {client.closed for client in clients} == {RESTART}
    assert hub.connections == 0


async def test_clients_are_told_in_no_order_that_they_came_in(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=4.0)
    clients = await clients_of(nursery, hub, 100)
    await hub.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    order = [client.told_at for client in clients]
    # One shuffle in 100! leaves them as they came.
    assert order not in (times(clients), times(clients)[::-1])


async def test_who_is_not_told_yet_is_given_every_message(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=10.0)
    clients = await clients_of(nursery, hub, 20)
    begin = trio.current_time()
    nursery.start_soon(hub.roster.drain)
    for number in range(10):
        await trio.sleep_until(begin + number + 0.25)  # between two that are told
        receipt = await hub.publish("g", Draft.of(str(number)))
        assert receipt.subscribers == sum(client.told_at is None for client in clients)
    await trio.sleep_until(begin + 10)
    for client in clients:
        assert client.told_at is not None
        published = [str(number).encode() for number in range(10) if begin + number + 0.25 < client.told_at]
        assert client.given == published


async def test_newcomers_are_sent_elsewhere_and_leavers_are_not_told_at_all(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=10.0)
    clients = await clients_of(nursery, hub, 10)
    nursery.start_soon(hub.roster.drain)
    await trio.sleep(4.5)
    (gone, *_) = [client for client in clients if client.told_at is None]
    gone.vanish()
    with pytest.raises(ShuttingDown):
        async with open_connection(hub, MemoryTransport()):
            raise AssertionError("it must not be taken in")
    await trio.sleep(10)
    assert gone.closed is None
    assert sum(client.closed == RESTART for client in clients) == 9


async def test_a_second_drain_waits_for_the_first_and_tells_nobody_twice_or_early(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=5.0)
    clients = await clients_of(nursery, hub, 50)
    begin = trio.current_time()
    nursery.start_soon(hub.roster.drain)
    await trio.testing.wait_all_tasks_blocked()
    await hub.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert begin + 4.8 < trio.current_time() <= begin + 5
    assert len({client.told_at for client in clients}) == 50


async def test_nobody_is_waited_for_who_has_left_by_himself(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, shutdown_spread=5.0)
    clients = await clients_of(nursery, hub, 50)
    begin = trio.current_time()
    async with trio.open_nursery() as draining:
        draining.start_soon(hub.roster.drain)
        await trio.sleep(1.05)
        for client in clients:
            client.vanish()
    assert trio.current_time() == begin + 1.05
    assert sum(client.closed is not None for client in clients) == 11


async def test_alone_with_its_memory_a_server_tells_all_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub = await hub_of(nursery, MemoryEngine)
    clients = await clients_of(nursery, hub, 250)
    begin = trio.current_time()
    await hub.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert set(times(clients)) == {begin}


async def test_where_others_take_them_a_few_are_gone_in_a_moment_and_many_take_half_of_grace() -> None:
    settings = Settings(grace=8.0)
    assert spread_of(settings, 0, alone=False) == 0
    assert spread_of(settings, 2, alone=False) == 2 / EASY_RATE
    assert spread_of(settings, 10_000, alone=False) == 4.0
    assert spread_of(settings, 10_000, alone=True) == 0
    for alone in (True, False):
        assert spread_of(Settings(shutdown_spread=7.0), 2, alone=alone) == 7.0
        assert spread_of(Settings(shutdown_spread=0.0), 10_000, alone=alone) == 0


async def test_an_unkind_engine_leaves_nobody_without_its_messages(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(shutdown_spread=5.0)
    hub = Hub(settings, UnkindEngine(settings, seed=1))
    await nursery.start(hub.run)
    clients = await clients_of(nursery, hub, 10)
    nursery.start_soon(hub.roster.drain)
    for number in range(20):
        await trio.sleep(0.25)
        await hub.post("g", Draft.of(str(number)))
    await trio.sleep(5)
    for client in clients:
        assert client.closed == RESTART
        assert client.given == [str(number).encode() for number in range(len(client.given))]


async def test_clients_of_one_server_come_to_the_other_as_evenly_as_they_were_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    one, other = await hub_of(nursery, shutdown_spread=5.0), await hub_of(nursery)
    came_back: list[float] = []

    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        for hub in (one, other):
            async with open_connection(hub, Timed(), ["g"]):
                if hub is one:
                    task_status.started()
                else:
                    came_back.append(trio.current_time())
                await trio.sleep_forever()

    for _ in range(50):
        await nursery.start(live)
    begin = trio.current_time()
    await one.roster.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert (one.connections, other.connections) == (0, 50)
    arrivals = [sum(begin + second <= at < begin + second + 1 for at in came_back) for second in range(5)]
    assert arrivals == [10, 10, 10, 10, 10]
