"""The end of a client is seen at once, whatever its handler is doing."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypercorn.config import Config

from tests.link.harness import PATIENCE, PING, TEXT, UPGRADE, Application, Client, frame, serve, settings
from triocast.link import LINK_KEY

SLOW = settings(write_timeout=3600, close_timeout=3600, keep_alive=3600)


async def fin(client: Client) -> None:
    client.socket.close()


async def rst(client: Client) -> None:
    client.reset()


ENDS = pytest.mark.parametrize("end", [fin, rst])
End = Callable[[Client], Awaitable[None]]


class Busy(Application):
    """Works on, and never receives; holds on to its handle."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.handles: list[Any] = []
        self.busy = trio.Event()

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await self._work(scope)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"more follows", "more_body": True})
        await self._work(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _work(self, scope: Any) -> None:
        self.handles.append(scope["state"][LINK_KEY])
        self.busy.set()
        await self.go_on.wait()


async def wait_gone(app: Busy) -> None:
    with trio.fail_after(PATIENCE):
        await app.busy.wait()
        for handle in app.handles:
            await handle.wait_gone()


@ENDS
@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_websocket_client_that_leaves_is_seen_and_its_socket_closed(end: End, alpn: str | None) -> None:
    app = Busy()
    async with serve(app, SLOW, tls=alpn is not None) as served:
        client = await served.websocket(alpn=alpn)
        await app.busy.wait()
        (link,) = served.link.live
        await end(client)
        await wait_gone(app)
        assert link.writer.closed
        assert app.ended == 0  # the handler is still at work, and is told when it asks
        app.go_on.set()
        await app.wait_ended()
        assert app.events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        await served.wait_empty()


@ENDS
async def test_a_client_of_a_stream_that_leaves_is_seen(end: End) -> None:
    app = Busy()
    async with serve(app, SLOW) as served:
        client = await served.connect()
        await client.request()
        await client.until(b"more follows")
        await end(client)
        await wait_gone(app)
        app.go_on.set()
        await app.wait_ended()
        assert app.events[-1] == {"type": "http.disconnect"}
        await served.wait_empty()


@ENDS
@pytest.mark.parametrize("behind", [b"x", b"GET / HTTP/1.1\r\n\r\n" * 100, b"x" * 200_000])
async def test_a_client_that_leaves_with_bytes_behind_its_request_is_seen(end: End, behind: bytes) -> None:
    app = Busy()
    async with serve(app, SLOW) as served:
        client = await served.connect()
        await client.request()
        await client.until(b"more follows")
        await client.send(behind)
        await end(client)
        await wait_gone(app)
        app.go_on.set()
        await app.wait_ended()
        await served.wait_empty()
        assert len(app.scopes) == 1


@ENDS
async def test_a_client_that_leaves_behind_messages_nobody_takes_is_seen(end: End) -> None:
    app = Busy()
    async with serve(app, SLOW) as served:
        client = await served.websocket()
        await app.busy.wait()
        # More than is read ahead, and less than our kernel takes: an end behind what it did not take is still unsent.
        await client.send(frame(TEXT, b"x" * 30_000) * 7)
        await end(client)
        await wait_gone(app)
        app.go_on.set()
        await app.wait_ended()
        assert app.events[-1]["type"] == "websocket.disconnect"
        await served.wait_empty()


@ENDS
async def test_a_client_that_leaves_before_it_is_accepted_is_seen(end: End) -> None:
    class Thinks(Busy):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await self._work(scope)
            await super().websocket(scope, receive, send)

    app = Thinks()
    async with serve(app, SLOW) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n" + frame(TEXT, b"early"))
        await app.busy.wait()
        await end(client)
        await wait_gone(app)
        app.go_on.set()
        await app.wait_ended()
        await served.wait_empty()


async def test_messages_before_the_end_are_delivered_before_the_disconnect() -> None:
    app = Application()
    async with serve(app, SLOW) as served:
        client = await served.websocket()
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(50)))
        client.socket.shutdown(socket.SHUT_WR)
        await app.wait_ended()
        texts = [event["text"] for event in app.events if event["type"] == "websocket.receive"]
        assert texts == [str(number) for number in range(50)]
        assert app.events[-1]["code"] == 1006


async def test_a_disconnect_is_repeated_to_a_handler_that_keeps_asking() -> None:
    class Asks(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            for _ in range(5):
                await receive()

    app = Asks()
    async with serve(app) as served:
        client = await served.websocket()
        await client.stream.aclose()
        await app.wait_ended()
        assert [event["type"] for event in app.events] == ["websocket.connect"] + ["websocket.disconnect"] * 4


async def test_pings_keep_no_connection_whose_client_has_left() -> None:
    config = Config()
    config.websocket_ping_interval = 3600
    app = Application()
    async with serve(app, SLOW, config=config) as served:
        client = await served.websocket()
        assert await client.frame() == (PING, b"")
        await client.stream.aclose()
        await app.wait_ended()
        await served.wait_empty()


async def test_idle_connections_end_when_the_server_stops() -> None:
    async with serve(Application(), SLOW) as served:
        fresh, kept = await served.connect(), await served.connect()
        await kept.request()
        await served.context.terminated.set()
        for client in (fresh, kept):
            assert await client.rest() == b""
            await client.stream.aclose()
        await served.wait_empty()


async def test_a_handle_says_when_the_server_stops() -> None:
    app = Busy()
    async with serve(app, SLOW) as served:
        await served.websocket()
        await app.busy.wait()
        (handle,) = app.handles
        assert not handle.is_terminating
        await served.context.terminated.set()
        with trio.fail_after(PATIENCE):
            await handle.wait_terminating()
        assert handle.is_terminating
        assert not handle.is_gone


async def test_a_response_under_way_is_finished_while_the_server_stops() -> None:
    class Streams(Busy):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await self._work(scope)
            await send({"type": "http.response.body", "body": b"whole"})

    app = Streams()
    async with serve(app, SLOW) as served:
        client = await served.connect()
        await client.request()
        await served.context.terminated.set()
        app.go_on.set()
        assert (await client.eof()).endswith(b"5\r\nwhole\r\n0\r\n\r\n")
        await client.stream.aclose()
        await served.wait_empty()
