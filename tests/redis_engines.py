"""What the tests of the Redis engine share: engines at a port, running for a block, and waiting for what is to come."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from triocast import Draft, EngineUnavailable, Gap, GapReason, Message, Settings
from triocast.engines.redis.engine import RedisEngine
from triocast.engines.redis.keys import Keys
from triocast.hub import Hub
from triocast.testing import MemoryTransport

PATIENCE = 60.0  # seconds until a test gives up; a bound, not a measure
PATIENT = Settings(history_size=10_000)
SHORT = Settings(engine_timeout=1.0, history_size=10_000)  # for what waits until an answer is late
KEYS = Keys()


def engine_at(place: int | str, settings: Settings = PATIENT) -> RedisEngine:
    """Return an engine for a port of this machine, or a URL; its waits are the same in every run."""
    url = f"redis://127.0.0.1:{place}" if isinstance(place, int) else place
    return RedisEngine(settings, url, source=random.Random(1))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; for what another task or a server is about to do."""
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.sleep(0.001)


@asynccontextmanager
async def running(*engines: RedisEngine) -> AsyncIterator[None]:
    """Run engines without a hub."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for engine in engines:
                await nursery.start(engine.run)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(engine: RedisEngine) -> AsyncIterator[Hub]:
    """Run a hub on an engine."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            hub = Hub(PATIENT, engine)
            await nursery.start(hub.run)
            yield hub
            nursery.cancel_scope.cancel()


async def publish_surely(engine: RedisEngine, group: str, draft: Draft) -> int:
    """Publish as somebody does who wants it done once; returns the offset."""
    while True:
        try:
            return (await engine.publish(group, draft)).position.offset
        except EngineUnavailable:
            await trio.sleep(0.01)


def seen(transport: MemoryTransport) -> list[int | tuple[GapReason, int, int]]:
    """Offsets of messages, and reason, first and last of gaps, in the order the client got them."""
    told: list[int | tuple[GapReason, int, int]] = []
    for entry in transport.received:
        assert isinstance(entry, Message | Gap)
        told.append(entry.offset if isinstance(entry, Message) else (entry.reason, entry.first, entry.last))
    return told
