"""Groups as every process shows them: with the members of all processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.engines.every import url_of
from tests.redis_engines import PATIENT, engine_at, eventually, running, serving
from tests.redis_servers import Cluster, Server
from triocast import Draft, EngineUnavailable, Settings
from triocast.connection import Connection, open_connection
from triocast.engines import Audience
from triocast.engines.redis.engine import RedisEngine
from triocast.engines.redis.keys import partition_of
from triocast.hub import Hub
from triocast.testing import MemoryTransport, World, simulate
from triocast.web import create_app

pytestmark = pytest.mark.once


@pytest.fixture(params=["valkey", "valkey_cluster", "debian_redis"])
def url(request: pytest.FixtureRequest) -> str:
    server: Server | Cluster = request.getfixturevalue(request.param)
    return url_of(server)


@asynccontextmanager
async def member(hub: Hub, *groups: str) -> AsyncIterator[Connection]:
    async with open_connection(hub, MemoryTransport(), groups) as connection:
        yield connection


async def reported(engine: RedisEngine, group: str, subscribers: int) -> None:
    """Wait until as many are known in a group from all processes."""
    with trio.fail_after(30):
        while sum(each.subscribers for each in (await engine.census([group]))[group].values()) != subscribers:
            await trio.sleep(0.01)


async def test_every_process_shows_who_is_where_and_its_own_members_at_once(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with serving(one) as here, serving(two) as there, member(here, "g"):
        async with member(there, "g", "there"):
            await reported(one, "g", 2)
            info = await here.info("g")
            assert info.processes is not None
            assert {name: each.subscribers for name, each in info.processes.items()} == {one.process: 1, two.process: 1}
            assert (info.subscribers, info.behind, info.approximate) == (2, 0, True)
            async with member(here, "g", "new"):
                assert (await here.info("g")).subscribers == 3
                assert [each.group for each in await here.page(None, 10)] == ["g", "new", "there"]
            assert (await here.info("g")).subscribers == 2  # though it has reported three, perhaps
            assert [each.group for each in await here.page(None, 10)] == ["g", "there"]
        await reported(one, "there", 0)
        assert [each.group for each in await here.page(None, 10)] == ["g"]


async def test_a_group_elsewhere_is_shown_with_its_position(url: str) -> None:
    one, two = engine_at(url), engine_at(url)
    async with serving(one) as here, serving(two) as there, member(there, "g"):
        await one.publish("g", Draft.of("x"))
        await reported(one, "g", 1)
        position = await one.position("g")
        (info,) = await here.page(None, 10)
        assert (info.group, info.epoch, info.offset, info.subscribers) == ("g", position.epoch, 1, 1)
        assert info == await here.info("g")


async def test_pages_follow_each_other_over_the_groups_of_all_processes(valkey: Server) -> None:
    one, two = engine_at(valkey.port), engine_at(valkey.port)
    names = [f"g{number:02}" for number in range(30)]
    async with serving(one) as here, serving(two) as there, member(here, *names[::2]), member(there, *names[1::2]):
        await reported(one, names[-1], 1)
        found: list[str] = []
        while page := await here.page(found[-1] if found else None, 7):
            assert len(page) == min(7, 30 - len(found))
            found += [info.group for info in page]
        assert found == names


async def test_a_process_that_leaves_in_order_counts_no_more_at_once_and_one_that_dies_after_three_seconds(
    valkey: Server,
) -> None:
    one, leaving, dying = (engine_at(valkey.port) for _ in range(3))
    async with serving(one) as here:
        async with running(dying):
            await dying.store.report(partition_of("g"), "dead", {"g": Audience(5, 0)})
            assert (await here.info("g")).subscribers == 5
        async with trio.open_nursery() as nursery:
            hub = Hub(PATIENT, leaving)
            await nursery.start(hub.run)
            async with member(hub, "g"):
                await reported(one, "g", 6)
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint_if_cancelled()
        info = await here.info("g")
        assert info.processes is not None
        assert leaving.process not in info.processes
        with trio.fail_after(30):
            while (await here.info("g")).subscribers:
                await trio.sleep(0.05)
        assert await here.page(None, 10) == []
        assert await one.listed(None, 10) == ["g"]  # it is forgotten later, and shown no more


async def test_while_the_server_is_away_nothing_is_shown_that_would_be_wrong(valkey_aof: Server) -> None:
    engine = engine_at(valkey_aof.port)
    async with serving(engine) as hub, member(hub, "g"):
        valkey_aof.kill()
        await eventually(lambda: not engine.connected)
        with pytest.raises(EngineUnavailable):
            await hub.info("g")
        with pytest.raises(EngineUnavailable):
            await hub.page(None, 10)


async def test_a_server_that_hangs_holds_up_nobody_who_leaves(valkey_aof: Server) -> None:
    engine = engine_at(valkey_aof.port)
    async with serving(engine) as hub, member(hub, "g"):
        await reported(engine, "g", 1)
        valkey_aof.pause()
        began = trio.current_time()
    assert trio.current_time() - began < PATIENT.engine_timeout
    valkey_aof.resume()


async def test_the_web_shows_processes_and_that_sums_are_approximate(valkey: Server) -> None:
    engine = engine_at(valkey.port)
    async with simulate(create_app(Settings(), engine=engine, harden=False)) as world:
        await world.connect("/ws/g", {})
        shown = await _get(world, "/groups/g")
        assert shown["processes"] == {engine.process: {"subscribers": 1, "behind": 0}}
        assert (shown["subscribers"], shown["approximate"]) == (1, True)
        assert await _get(world, "/groups") == {"groups": [shown], "next": None}


async def test_memory_shows_no_processes() -> None:
    async with simulate(create_app(Settings(), harden=False)) as world:
        await world.connect("/ws/g", {})
        shown = await _get(world, "/groups/g")
        assert shown["subscribers"] == 1
        assert not {"processes", "approximate"} & shown.keys()


async def _get(world: World, path: str) -> dict[str, Any]:
    response = await world.http.get(path)
    assert response.status_code == 200
    shown: dict[str, Any] = await response.get_json()
    return shown
