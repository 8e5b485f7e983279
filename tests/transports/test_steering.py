"""What clients of each kind see on their sockets when they are parted with: by WebSocket and by server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket

from tests.served import PATIENCE, Served, served
from tests.sse import Event, Listener, connect
from triocast import Settings

WHY = "code=4003&reason=not+here"


@asynccontextmanager
async def websocket(app: Served, target: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    # In a block of its own: trio-websocket leaves a socket open that the server has closed.
    async with await app.connect() as stream, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            client = await trio_websocket.wrap_client_stream(nursery, stream, "localhost", target)
        yield client
        nursery.cancel_scope.cancel()


async def delete(app: Served, path: str) -> object:
    answer = await app.request(f"DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


def the_id(app: Served) -> str:
    (connection,) = app.hub.roster
    return connection.id


async def closed(client: trio_websocket.WebSocketConnection) -> tuple[int, str | None]:
    with trio.fail_after(PATIENCE), pytest.raises(trio_websocket.ConnectionClosed) as caught:
        await client.get_message()
    assert caught.value.reason is not None
    return caught.value.reason.code, caught.value.reason.reason


@asynccontextmanager
async def listening(app: Served, target: str, *groups: str) -> AsyncIterator[Listener]:
    listener = await connect(app.port)
    try:
        yield await (await listener.listen(target)).joined(*groups)
    finally:
        listener.socket.close()


@pytest.mark.parametrize("form", ["raw", "json"])
async def test_a_websocket_that_is_closed_gets_what_came_before_and_then_the_code(form: str) -> None:
    async with served() as app, websocket(app, f"/ws/g?format={form}") as client:
        if form == "json":
            assert "joined" in await client.get_message()
        await app.publish("g", b"before")
        assert await delete(app, f"/connections/{the_id(app)}?{WHY}") == {"closed": 1}
        assert "before" in await client.get_message()
        assert await closed(client) == (4003, "not here")
        await app.wait_connections(0)


async def test_a_member_that_reads_objects_is_told_and_goes_on() -> None:
    async with served() as app, websocket(app, "/ws?group=g&group=h&format=json") as client:
        began = [json.loads(await client.get_message()) for _ in range(2)]
        await app.publish("g", b"before")
        assert await delete(app, f"/groups/g/members/{the_id(app)}?{WHY}") == {"removed": 1}
        await app.publish("g", b"not for it")
        await app.publish("h", b"after")
        frames = [json.loads(await client.get_message()) for _ in range(3)]
        left = {"epoch": began[0]["joined"]["epoch"], "offset": 1, "code": 4003, "reason": "not here"}
        assert frames == [
            {"group": "g", "offset": 1, "data": "before"},
            {"group": "g", "left": left},
            {"group": "h", "offset": 1, "data": "after"},
        ]


async def test_a_member_that_reads_payloads_is_closed() -> None:
    async with served() as app, websocket(app, "/ws?group=g&group=h") as client:
        assert await delete(app, f"/groups/g/members/{the_id(app)}?{WHY}") == {"removed": 1}
        assert await closed(client) == (4003, "not here")


async def test_a_stream_of_events_ends_with_the_reason() -> None:
    async with served() as app, listening(app, "/sse/g") as listener:
        assert await delete(app, f"/connections/{the_id(app)}") == {"closed": 1}
        (event,) = await listener.to_the_end()
        assert (event.name, json.loads(event.data)) == (
            "close",
            {"code": 3503, "reason": "disconnected by the server"},
        )
        assert listener.whole


@pytest.mark.parametrize("form", ["raw", "json"])
@pytest.mark.parametrize("groups", [("g",), ("g", "h")])
async def test_a_listener_that_is_removed_is_told_by_an_event_and_its_stream_goes_on(
    groups: tuple[str, ...], form: str
) -> None:
    target = f"/sse?format={form}&" + "&".join(f"group={group}" for group in groups)
    async with served() as app, listening(app, target, *groups) as listener:
        receipt = await app.publish("g", b"before")
        assert await delete(app, f"/groups/g/members/{the_id(app)}?{WHY}") == {"removed": 1}
        before, event = await listener.events(2)
        left = {"epoch": receipt["epoch"], "offset": 1, "code": 4003, "reason": "not here"}
        told = {"group": "g", "left": left}
        assert (event.name, json.loads(event.data), event.id) == ("leave", told, before.id)
        if "h" in groups:
            await app.publish("h", b"after")
            last: Event = await listener.event()
            assert "after" in last.data
        assert app.hub.connections == 1


async def test_a_client_that_does_not_read_is_gone_when_its_time_is_up() -> None:
    async with served(Settings(close_timeout=0.5), send_buffer=4096) as app:
        stalled = await connect(app.port, buffer=1024)
        await stalled.listen("/sse/g")
        for _ in range(20):
            await app.publish("g", b"x" * 100_000)
        assert await delete(app, f"/connections/{the_id(app)}") == {"closed": 1}
        assert await delete(app, "/groups/g/members/nobody") == {"removed": 0}
        await app.wait_connections(0)  # after `close_timeout`
        stalled.socket.close()
