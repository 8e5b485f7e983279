"""Clients that the link gives up are counted by the hub above it, with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.link.harness import UPGRADE, Client, Served, serve
from triocast import Settings, Triocast
from triocast.meters import Eviction
from triocast.web import create_app

SETTINGS = Settings(ping_interval=0.2, ping_timeout=0.1, write_timeout=0.5)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Served, Triocast]]:
    app = create_app(SETTINGS, harden=False)
    async with app.test_app(), serve(app, SETTINGS, buffer=16 * 1024) as served:
        yield served, app.extensions["triocast"]


async def subscribed(served: Served) -> Client:
    client = await served.connect(buffer=16 * 1024)
    await client.send(UPGRADE.replace(b"GET /", b"GET /ws/sample") + b"\r\n")
    assert b" 101 " in await client.until(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    return client


async def evictions(served: Served, push: Triocast) -> dict[Eviction, int]:
    await served.wait_empty()
    return {reason: count for reason, count in push.hub.meters.evicted.items() if count}


async def test_a_client_that_answers_no_ping(mock_clock: trio.testing.MockClock) -> None:
    async with serving() as (served, push):
        await subscribed(served)
        mock_clock.jump(0.2)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.1)
        assert await evictions(served, push) == {Eviction.PING_TIMEOUT: 1}


async def test_a_client_that_takes_nothing(mock_clock: trio.testing.MockClock) -> None:
    async with serving() as (served, push):
        await subscribed(served)
        for _ in range(4):
            await push.group("sample").send(bytes(1024 * 1024))
        await trio.testing.wait_all_tasks_blocked()
        while served.link.live:  # its kernel may take the last bytes a little later
            mock_clock.jump(SETTINGS.write_timeout / 8)
            await trio.testing.wait_all_tasks_blocked()
        assert await evictions(served, push) == {Eviction.WRITE_TIMEOUT: 1}


async def test_a_client_that_leaves_is_no_eviction(mock_clock: trio.testing.MockClock) -> None:
    async with serving() as (served, push):
        client = await subscribed(served)
        client.reset()
        assert await evictions(served, push) == {}
