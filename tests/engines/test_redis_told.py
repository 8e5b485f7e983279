"""What operators are told of the engine: readiness and numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.redis_engines import SHORT, engine_at, eventually, seen, serving
from tests.redis_servers import Server
from tests.web.test_metrics import scrape
from triocast import Draft, EngineUnavailable, Settings, Triocast, UnknownOutcome
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST
from triocast.engines.redis.engine import RedisEngine
from triocast.hub import Hub
from triocast.settings.redis_address import parse_redis_address
from triocast.testing import MemoryTransport, World, simulate
from triocast.web import create_app


@asynccontextmanager
async def served(engine: RedisEngine) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with simulate(create_app(SHORT, engine=engine, harden=False)) as world:
            yield world


async def readiness(world: World) -> tuple[int, str]:
    assert (await world.http.get("/health/live")).status_code == 200
    response = await world.http.get("/health/ready")
    return response.status_code, await response.get_data(as_text=True)


async def test_a_server_is_ready_while_its_engine_is_connected(valkey_aof: Server) -> None:
    engine = engine_at(valkey_aof.port, SHORT)
    async with served(engine) as world:
        await world.connect("/ws/g", {})
        assert (await readiness(world))[0] == 200
        valkey_aof.kill()
        await eventually(lambda: not engine.connected)
        status, text = await readiness(world)
        assert status == 503
        assert "the engine can't be reached" in text
        assert str(valkey_aof.port) not in text  # anybody may ask
        valkey_aof.start()
        await eventually(lambda: engine.connected)
        assert (await readiness(world))[0] == 200


async def test_a_server_that_begins_without_its_engine_is_not_ready(valkey_aof: Server) -> None:
    valkey_aof.kill()
    async with served(engine_at(valkey_aof.port, SHORT)) as world:
        assert (await readiness(world))[0] == 503


async def test_numbers_tell_of_a_lost_engine_and_what_became_of_publishes(valkey_aof: Server) -> None:
    engine = engine_at(valkey_aof.port, SHORT)
    node = f"{{node=redis://127.0.0.1:{valkey_aof.port}/0}}"
    async with served(engine) as world:
        push: Triocast = world.app.extensions["triocast"]
        await world.connect("/ws/g", {})
        before = await scrape(world)
        assert before[f"triocast_engine_up{node}"] == 1
        assert 0 <= before[f"triocast_engine_state_seconds{node}"] < 60
        assert before["triocast_engine_unsubscribed_groups"] == 0
        valkey_aof.pause()
        with pytest.raises(UnknownOutcome):
            await push.group("g").send("x")
        valkey_aof.resume()
        valkey_aof.kill()
        await eventually(lambda: not engine.connected and engine.unsubscribed)
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await push.group("g").send("x")
        after = await scrape(world)
        assert after[f"triocast_engine_up{node}"] == 0
        assert after["triocast_engine_unsubscribed_groups"] == 1
        assert after["triocast_publishes_failed_total{outcome=unavailable}"] == 2
        assert after["triocast_publishes_failed_total{outcome=unknown_outcome}"] == 1
        assert after["triocast_published_messages_total"] == 0


async def test_memory_has_no_numbers_of_servers() -> None:
    async with simulate(create_app(SHORT, harden=False)) as world:
        assert not [name for name in await scrape(world) if "engine" in name or "failed" in name]
        assert (await readiness(world))[0] == 200


@pytest.mark.parametrize("url", ["redis://h", "redis+sentinel://h/main", "redis+cluster://h", "unix:///r.sock"])
def test_an_engine_is_made_before_anything_runs(url: str) -> None:
    engine = RedisEngine(Settings(), url)
    assert not engine.connected
    assert engine.why
    assert repr(engine).startswith(f"<RedisEngine {parse_redis_address(url)} not connected: ")


async def test_a_client_that_recovers_waits_for_a_server_that_is_killed_and_misses_nothing(valkey_aof: Server) -> None:
    engine = engine_at(valkey_aof.port, SHORT)
    async with serving(engine) as hub:
        for number in range(600):
            await engine.publish("g", Draft.of(number))
        slow = MemoryTransport()
        slow.stall()
        async with trio.open_nursery() as nursery:
            await nursery.start(_visit, hub, slow)
            valkey_aof.kill()
            await eventually(lambda: not engine.connected)
            slow.resume()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(slow.received) < 600
            valkey_aof.start()
            await eventually(lambda: len(slow.received) >= 600)
            assert seen(slow) == list(range(1, 601))
            assert slow.closed is None
            nursery.cancel_scope.cancel()


async def _visit(
    hub: Hub, transport: MemoryTransport, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with open_connection(hub, transport, ["g"], {"g": OLDEST}):
        task_status.started()
        await trio.sleep_forever()
