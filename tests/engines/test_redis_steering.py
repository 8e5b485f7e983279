"""Parting with clients of other processes: on one server and on a Cluster, and when somebody can't be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
import trio

from tests.engines.every import url_of
from tests.redis_engines import KEYS, SHORT, engine_at, eventually, running, serving
from tests.redis_proxy import proxied
from tests.redis_servers import Cluster, Server
from triocast import Draft, EngineUnavailable
from triocast.connection import Connection, open_connection
from triocast.core.identity import Identity
from triocast.core.steering import Order, Outcome
from triocast.core.wire import JSON, RAW, Left
from triocast.core.wire.format import Format
from triocast.engines.redis import feed, orders
from triocast.engines.redis.engine import RedisEngine
from triocast.errors import FORCED, Close
from triocast.hub import Hub
from triocast.testing import MemoryTransport

pytestmark = pytest.mark.once

GO = Close(4001, "gehe, bitte: é")


@pytest.fixture(params=["valkey", "valkey_cluster", "debian_redis"])
def url(request: pytest.FixtureRequest) -> str:
    server: Server | Cluster = request.getfixturevalue(request.param)
    return url_of(server)


@pytest.fixture(autouse=True)
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missed must not be found by the look that comes in a while anyway."""
    monkeypatch.setattr(feed, "CHECK_EVERY", 1e6)


@asynccontextmanager
async def client(
    hub: Hub, *groups: str, form: Format = RAW, user: str | None = None
) -> AsyncIterator[tuple[Connection, MemoryTransport]]:
    transport, opened = MemoryTransport(form), trio.Event()
    found: list[Connection] = []

    async def handle() -> None:
        async with open_connection(hub, transport, groups, identity=Identity.of(user)) as connection:
            found.append(connection)
            opened.set()
            async for _ in connection:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle)
        await opened.wait()
        yield found[0], transport
        nursery.cancel_scope.cancel()


async def hearing(*engines: RedisEngine) -> None:
    """Wait until orders reach these engines."""
    await eventually(lambda: all(engine._orders.live for engine in engines))


async def test_a_connection_of_another_process_is_closed(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with serving(one) as here, serving(two) as there, client(there, "g") as (far, seen):
        await hearing(one, two)
        assert await here.order(Order(GO, client=far.id)) == Outcome(1)
        await eventually(lambda: seen.closed)
        assert seen.closed == GO
        await eventually(lambda: not there.connections)
        assert await here.order(Order(GO, client=far.id)) == Outcome(0)


async def test_a_users_connections_are_closed_wherever_they_are_and_nobody_elses(url: str) -> None:
    engines = [engine_at(url) for _ in range(3)]
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(serving(engine)) for engine in engines]
        anns = [await stack.enter_async_context(client(hub, user="änn/1")) for hub in hubs for _ in range(2)]
        others = [await stack.enter_async_context(client(hub, user=user)) for hub in hubs for user in ("bob", None)]
        await hearing(*engines)
        assert await hubs[0].order(Order(FORCED, user="änn/1")) == Outcome(6)
        await eventually(lambda: all(seen.closed == FORCED for _, seen in anns))
        assert [seen.closed for _, seen in others] == [None] * 6


async def test_a_member_of_another_process_is_removed_and_told_so(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with serving(one) as here, serving(two) as there, client(there, "g", "h", form=JSON) as (far, seen):
        await hearing(one, two)
        await here.publish("g", Draft.of("x"))
        await eventually(lambda: len(seen.received) == 3)
        assert await here.order(Order(GO, client=far.id, group="g")) == Outcome(1)
        await eventually(lambda: isinstance(seen.received[-1], Left))
        left = seen.received[-1]
        assert isinstance(left, Left)
        assert (left.group, left.offset, left.why, far.groups) == ("g", 1, GO, ["h"])
        assert await here.order(Order(GO, client=far.id, group="g")) == Outcome(0)


async def test_many_orders_at_once_are_each_carried_out_once(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(serving(engine)) for engine in (one, two)]
        far = [await stack.enter_async_context(client(there)) for _ in range(50)]
        await hearing(one, two)
        outcomes: list[Outcome] = []

        async def part(connection: Connection) -> None:
            outcomes.append(await here.order(Order(GO, client=connection.id)))

        async with trio.open_nursery() as nursery:
            for connection, _ in far:
                nursery.start_soon(part, connection)
        assert outcomes == [Outcome(1)] * 50


async def test_what_is_here_is_parted_with_though_no_server_can_be_reached(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port, SHORT)
        async with serving(engine) as hub, client(hub, user="ann") as (near, seen):
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not engine.connected)
            with pytest.raises(EngineUnavailable):
                await hub.order(Order(GO, user="ann"))
            assert seen.closed is None
            assert await hub.order(Order(GO, client=near.id)) == Outcome(1)


async def test_who_does_not_hear_at_the_moment_does_it_later_and_the_sum_says_that_it_lacks_somebody(
    valkey: Server,
) -> None:
    async with proxied(valkey.port) as proxy:
        one, away = engine_at(valkey.port), engine_at(proxy.port)
        async with serving(one) as here, serving(away) as there, client(there, user="ann") as (_, old):
            await hearing(one, away)
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not away._orders.live)
            async with client(here, user="ann") as (_, near):
                await eventually(lambda: valkey.admin.execute_command(*NUMSUB)[1] == 1)
                assert await here.order(Order(GO, user="ann")) == Outcome(1, approximate=True)
                await eventually(lambda: near.closed)
            async with client(there, user="ann") as (_, new):
                assert old.closed is None
                proxy.mend()
                await eventually(lambda: old.closed)
                assert (old.closed, new.closed) == (GO, None)


async def test_a_process_that_hears_and_does_not_answer_is_waited_for_so_long_and_no_longer(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "PATIENCE", 0.2)
    async with proxied(valkey.port) as proxy:
        one, stuck = engine_at(valkey.port), engine_at(proxy.port)
        async with serving(one) as here, serving(stuck) as there, client(there, user="ann") as (_, seen):
            await hearing(one, stuck)
            proxy.hold_answers()
            valkey.admin.flushdb()  # nor does the server know any more who hears; it sees that they do
            assert await here.order(Order(GO, user="ann")) == Outcome(0, approximate=True)
            proxy.mend()
            await eventually(lambda: seen.closed)


async def test_a_process_that_has_left_is_not_waited_for(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with serving(one) as here:
        async with running(two):
            await hearing(one, two)
        assert await here.order(Order(GO, user="ann")) == Outcome(0)


async def test_an_order_of_a_server_that_was_emptied_or_is_foreign_harms_nobody(
    valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = engine_at(valkey.port), engine_at(valkey.port)
    async with serving(one) as here, serving(two) as there, client(there, user="ann") as (_, seen):
        await hearing(one, two)
        for foreign in (b"", b"x", b"1-1 {}", b"1-2 \xff", b'1-3 {"close":{"code":1,"reason":"","come_back":"?"}}'):
            valkey.admin.execute_command("SPUBLISH", KEYS.orders_channel, foreign)
        await eventually(lambda: caplog.text.count("something foreign") == 10)
        valkey.admin.flushdb()
        assert (await here.order(Order(GO, user="ann"))).count == 1
        assert seen.closed == GO


async def test_what_waits_is_bounded_and_what_was_done_is_not_done_again(valkey: Server) -> None:
    engine = engine_at(valkey.port)
    text = msgspec.json.encode(Order(GO, user="ann"))
    async with running(engine):
        await hearing(engine)
        ear = engine._orders
        for number in range(3 * orders.KEPT):  # in one step: nobody takes them
            ear.told(b"%d-0 %b" % (number, text))
        assert len(ear._waiting) == orders.KEPT
        await eventually(lambda: not ear._waiting)
        ear.told(b"%d-0 %b" % (orders.KEPT - 1, text))
        assert not ear._waiting
        for number in range(orders.KEPT):
            ear.told(b"%d-1 %b" % (number, text))
        assert len(ear._known) == orders.KEPT


NUMSUB = ("PUBSUB", "SHARDNUMSUB", KEYS.orders_channel)
