"""JSON over real sockets: each stream begins with its greeting, whoever publishes meanwhile, and all of it arrives."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio_websocket

from tests.served import PATIENCE, Served, served
from triocast import Draft, Settings
from triocast.client import Gap, ListenerSettings, open_listener


async def told(client: trio_websocket.WebSocketConnection) -> Any:
    return msgspec.json.decode(await client.get_message())


@asynccontextmanager
async def connected(server: Served, query: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    stream: Any = await server.connect()
    async with stream, trio.open_nursery() as nursery:
        yield await trio_websocket.wrap_client_stream(nursery, stream, "localhost", f"/ws?{query}")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_no_message_comes_before_its_streams_greeting_and_none_is_left_out(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server_side, client_side = contexts if tls else (None, None)
    seen: set[str] = set()

    async def visit(server: Served) -> None:
        async with connected(server, "group=a&group=b&format=json") as client:
            expected: dict[str, int] = {}
            for _ in range(40):
                frame = await told(client)
                group = frame["group"]
                if group in expected:
                    assert frame["offset"] == expected[group]
                    expected[group] += 1
                else:
                    expected[group] = frame["joined"]["offset"] + 1
                    seen.add(frame["joined"]["client"])

    async def publish(server: Served, group: str) -> None:
        while True:
            await server.hub.publish(group, Draft.of("x" * 100))

    with trio.fail_after(PATIENCE):
        async with served(tls=server_side, trust=client_side) as server, trio.open_nursery() as publishers:
            for group in "ab":
                publishers.start_soon(publish, server, group)
            async with trio.open_nursery() as visitors:
                for _ in range(10):
                    visitors.start_soon(visit, server)
            publishers.cancel_scope.cancel()
            await server.wait_connections(0)
    assert len(seen) == 10


async def test_a_gap_comes_where_the_client_stopped_reading() -> None:
    settings = Settings(max_lag=4)
    with trio.fail_after(PATIENCE):
        async with served(settings, send_buffer=4096) as server, connected(server, "group=a&format=json") as client:
            assert "joined" in await told(client)
            lagging = 0
            while lagging < 20:  # until the socket is full, and then some
                lagging += (await server.hub.publish("a", Draft.of("x" * 100_000))).behind
            offset, gaps = 0, 0
            top = (await server.hub.info("a")).offset
            while offset < top:
                frame = await told(client)
                first, last = (frame["gap"]["from"], frame["gap"]["to"]) if "gap" in frame else 2 * (frame["offset"],)
                assert first == offset + 1
                offset = last
                gaps += "gap" in frame
            assert gaps


async def test_the_python_client_is_told_of_gaps_by_the_real_server() -> None:
    async with served(Settings(max_lag=4), send_buffer=4096) as server:
        settings = ListenerSettings(max_waiting=1)
        with trio.fail_after(PATIENCE):
            async with open_listener(f"http://127.0.0.1:{server.port}", ["a"], settings=settings) as messages:
                lagging = 0
                while lagging < 20:
                    receipt = await server.hub.publish("a", Draft.of({"x": "x" * 100_000}))
                    lagging += receipt.behind
                offset, gaps = 0, 0
                async for item in messages:
                    first, last = (item.first, item.last) if isinstance(item, Gap) else (item.offset, item.offset)
                    assert first == offset + 1
                    assert last is not None
                    offset = last
                    gaps += isinstance(item, Gap)
                    if offset == receipt.offset:
                        break
                assert gaps
