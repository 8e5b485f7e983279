"""Who is there over real sockets: by every way to write, between the messages, and to a client that does not read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
import trio_websocket

from tests.served import PATIENCE, Served, served
from tests.sse import Reader, connect
from tests.transports.stage import EXTENSION, Contexts, Peer, _without_link
from tests.transports.test_events_http2 import Stream, scene
from triocast import Draft, Settings
from triocast.connection import open_connection
from triocast.core.identity import Identity
from triocast.core.presence_log import KEPT_WEIGHT
from triocast.link.host import open_host
from triocast.testing import MemoryTransport
from triocast.web import create_app

UPGRADE = (
    b"GET /ws/g?format=json&presence=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
KINDS = ("direct", "tls", "portable")


@asynccontextmanager
async def serving(kind: str, contexts: Contexts, settings: Settings | None = None) -> AsyncIterator[Served]:
    if kind != "portable":
        server, client = contexts if kind == "tls" else (None, None)
        async with served(settings, tls=server, trust=client, send_buffer=4096) as app:
            yield app
        return
    settings = settings or Settings()
    app = create_app(settings)
    async with open_host(_without_link(app), settings) as host, trio.open_nursery() as nursery:  # type: ignore[arg-type]
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, host.serve, [listener])
        yield Served(listener.socket.getsockname()[1], host, app.extensions["triocast"])
        host.reset_all()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(server: Served, target: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    stream: Any = await server.connect()
    async with stream, trio.open_nursery() as nursery:
        yield await trio_websocket.wrap_client_stream(nursery, stream, "localhost", target)
        nursery.cancel_scope.cancel()


async def told(client: trio_websocket.WebSocketConnection) -> Any:
    return msgspec.json.decode(await client.get_message())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_websocket_is_told_between_its_messages(kind: str, contexts: Contexts) -> None:
    with trio.fail_after(PATIENCE):
        async with serving(kind, contexts) as server, listening(server, "/ws/g?format=json&presence=1") as watcher:
            assert "joined" in await told(watcher)
            assert (await told(watcher))["presence"] == "reset"
            await server.hub.publish("g", Draft.of("before"))
            assert (await told(watcher))["data"] == "before"
            async with listening(server, "/ws/g?info=" + quote('{"n":1}')):
                event = (await told(watcher))["presence"]
                (other,) = [each for each in event["joined"] if each["info"]]
            assert (await told(watcher))["presence"] == {"left": [{"client": other["client"], "reason": "left"}]}
            await server.hub.publish("g", Draft.of("after"))
            assert (await told(watcher))["data"] == "after"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("many", [False, True])
async def test_an_event_client_is_told_without_an_id(kind: str, many: bool, contexts: Contexts) -> None:
    groups = "group=g&group=h" if many else "group=g"
    with trio.fail_after(PATIENCE):
        async with serving(kind, contexts) as server:
            client = await connect(server.port, trust=server.trust)
            await client.listen(f"/sse?{groups}&presence=1")
            begun = await client.events(4 if many else 2)
            for group in groups.replace("group=", "").split("&"):
                of_it = [event.name for event in begun if msgspec.json.decode(event.data)["group"] == group]
                assert of_it == ["join", "presence"]
            await server.hub.publish("g", Draft.of("x"))
            message = await client.event()
            async with listening(server, "/ws/g"):
                came = await client.event()
            left = await client.event()
            assert (message.data, came.name, left.name) == ("x", "presence", "presence")
            assert message.id == came.id == left.id  # it stays where it is
            assert list(msgspec.json.decode(left.data)["presence"]) == ["left"]
            client.reset()


async def test_a_watcher_that_takes_nothing_is_told_to_ask_again(contexts: Contexts) -> None:
    ann = Identity(None, b'{"x":"%b"}' % (b"x" * 900))
    with trio.fail_after(PATIENCE):
        async with serving("direct", contexts, Settings(max_lag=4)) as server, AsyncExitStack() as stack:
            client = await stack.enter_async_context(listening(server, "/ws/g?format=json&presence=1"))
            lagging = 0
            while lagging < 20:  # until the socket is full, and then some
                lagging += (await server.hub.publish("g", Draft.of("x" * 100_000))).behind
            for _ in range(400):
                await stack.enter_async_context(open_connection(server.hub, MemoryTransport(), ["g"], identity=ann))
            watchers = server.hub.opened_groups()[0]._watchers
            assert watchers is not None
            while watchers.log.top < 6 or watchers.waiting:
                assert watchers.log._weight <= KEPT_WEIGHT
                await trio.sleep(0.002)
            resets = 0
            while resets < 2:  # its first, and the one for what it missed
                event = await told(client)
                assert event.get("presence", "reset") == "reset"
                resets += "presence" in event
            await server.hub.publish("g", Draft.of("it goes on"))
            while (await told(client)).get("data") != "it goes on":
                pass


async def test_a_watcher_is_told_over_http2() -> None:
    async with scene() as world:
        client = await world.client()
        headers = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/sse/a?presence=1"),
        ]
        stream = Stream(client, await client.request(headers), Reader())
        assert [event.name for event in await stream.events(2)] == ["join", "presence"]
        async with open_connection(world.app.hub, MemoryTransport(), ["a"]) as other:
            (came,) = await stream.events(1)
            joined = msgspec.json.decode(came.data)["presence"]["joined"]
            assert other.id in [each["client"] for each in joined]
        (left,) = await stream.events(1)
        assert msgspec.json.decode(left.data)["presence"] == {"left": [{"client": other.id, "reason": "left"}]}


async def test_what_many_are_told_is_compressed_for_those_who_can_read_it(contexts: Contexts) -> None:
    settings = Settings(compression=True)
    ann = Identity(None, b'{"x":"%b"}' % (b"x" * 900))
    with trio.fail_after(PATIENCE):
        async with serving("direct", contexts, settings) as server:
            client = Peer(await server.connect(), deflate=True)
            await client.stream.send_all(UPGRADE)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += bytes(await client.stream.receive_some(1))
            assert EXTENSION in head
            assert b'"joined"' in await client.message()
            assert b'"reset"' in await client.message()
            async with open_connection(server.hub, MemoryTransport(), ["g"], identity=ann) as other:
                event = msgspec.json.decode(await client.message())
                assert event["presence"]["joined"][-1]["client"] == other.id
            client.leave()
