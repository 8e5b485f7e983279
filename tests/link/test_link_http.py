"""Requests over HTTP/1.1: bodies with backpressure, one after another, and over other sockets."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.middleware import ProxyFixMiddleware

from tests.link.harness import TEXT, Application, answer, frame, serve, settings
from tests.link.test_link_messages import pour
from tests.memory import flat_memory
from triocast.link import LINK_KEY

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
MEGABYTE = 1024 * 1024


async def test_a_body_is_delivered_whole() -> None:
    body = bytes(range(256)) * 4096
    async with serve(Application()) as served:
        client = await served.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await client.until(b"\r\n\r\n")
            assert await client.exactly(len(body)) == body


async def test_a_body_of_tiny_chunks_is_delivered_whole() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        await client.until(b"\r\n\r\n")
        assert await client.exactly(20_000) == b"x" * 20_000


async def test_a_body_of_tiny_chunks_lets_others_run() -> None:
    app = Application()
    async with serve(app) as served:
        client = await served.connect()
        # One read of the server: understood in one go, it would reach the handler in one piece.
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
        await client.until(b"\r\n\r\n")
        assert len([event for event in app.events if event["type"] == "http.request"]) > 1


async def test_a_body_that_nobody_reads_slows_its_client_and_costs_no_memory() -> None:
    class Waits(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await trio.sleep_forever()

    async with serve(Waits()) as served:
        client = await served.connect()
        await client.send(POST + b"Content-Length: 1000000000\r\n\r\n")
        with flat_memory():
            with trio.move_on_after(0.5) as patience:
                await pour(client, bytes(MEGABYTE // 4), 4000)
            assert patience.cancelled_caught
        assert len(served.link.live) == 1


async def test_a_handler_that_reads_late_gets_the_whole_body() -> None:
    go_on = trio.Event()

    class Late(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await go_on.wait()
            await super().http(scope, receive, send)

    async with serve(Late()) as served:
        client = await served.connect()
        body = b"0123456789" * 200_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            with trio.move_on_after(0.1):
                await trio.sleep_forever()
            go_on.set()
            await client.until(b"\r\n\r\n")
            assert await client.exactly(len(body)) == body


async def test_requests_sent_together_are_answered_in_order() -> None:
    class Names(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, scope["path"].encode())

    async with serve(Names()) as served:
        client = await served.connect()
        targets = [b"/%d/" % number for number in range(50)]
        await client.send(b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target for target in targets))
        for target in targets:
            assert (await client.until(target)).startswith(b"HTTP/1.1 200 ")


class Framework(Application):
    """Listens and answers side by side, and cancels both when the client's end is announced, as Quart-Trio does."""

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, receive, nursery.cancel_scope)
            await answer(send, 200, scope["path"].encode())

    async def _listen(self, receive: Any, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


ODD = b"Upgrade: x\r\n"
"""A request with it is held up by h11 until it is answered, although nothing is behind it."""


@pytest.mark.parametrize("head", [b"", ODD])
async def test_a_handler_cancelled_at_the_end_of_its_response_leaves_the_connection_usable(head: bytes) -> None:
    async with serve(Framework()) as served:
        client = await served.connect()
        for number in range(5):
            assert b" 200 " in await client.request(f"/{number}", head)
            assert await client.exactly(2) == b"/%d" % number
        request = b"GET /again HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n"
        await client.send(request * 3)
        for _ in range(3):
            await client.until(b"/again")


@pytest.mark.parametrize("head", [b"", ODD])
async def test_a_handler_cancelled_at_the_end_of_its_response_leaves_a_connection_that_expires(head: bytes) -> None:
    async with serve(Framework(), settings(keep_alive=0.1)) as served:
        client = await served.connect()
        assert b" 200 " in await client.request("/", head)
        assert await client.eof() == b"/"
        await served.wait_empty()


async def test_a_body_that_is_expected_is_asked_for() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send(b"body")
        assert (await client.until(b"body")).startswith(b"HTTP/1.1 200 ")


async def test_a_request_of_http_1_0_is_answered_and_closed() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 200 " in await client.eof()


async def test_a_handler_that_crashes_is_500_and_ends_only_its_own_request() -> None:
    class Crashes(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            raise ValueError("wrong")

    async with serve(Crashes()) as served:
        client, other = await served.connect(), await served.websocket()
        assert b" 500 " in await client.request()
        await other.send(frame(TEXT, b"alive"))
        assert await other.frame() == (TEXT, b"alive")


async def test_a_connection_serves_as_many_requests_as_hypercorn_is_told() -> None:
    config = Config()
    config.keep_alive_max_requests = 2
    async with serve(Application(), config=config) as served:
        client = await served.connect()
        assert b"connection: close" not in await client.request()
        assert b"connection: close" in await client.request()
        assert await client.eof() == b""


async def test_the_handle_goes_through_middleware_that_copies_scopes() -> None:
    app = Application()
    async with serve(ProxyFixMiddleware(app)) as served:
        client = await served.connect()
        assert b" 200 " in await client.request("/", b"X-Forwarded-For: 192.0.2.1\r\n")
        websocket = await served.websocket()
        await websocket.send(frame(TEXT, b"through"))
        assert await websocket.frame() == (TEXT, b"through")
        assert app.scopes[0]["client"] == ("192.0.2.1", 0)
        for scope in app.scopes:
            handle = scope["state"][LINK_KEY]
            assert handle.progress_watched
            assert copy.deepcopy(handle) is handle
            assert scope["state"]["from"] == "lifespan"
        assert app.scopes[0]["state"][LINK_KEY] is not app.scopes[1]["state"][LINK_KEY]
        assert repr(handle) == "<Handle open>"


async def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    app = Application()
    async with serve(app, settings(), unix=tmp_path / "triocast.sock") as served:
        websocket = await served.websocket()
        await websocket.send(frame(TEXT, b"hello"))
        assert await websocket.frame() == (TEXT, b"hello")
        client = await served.connect()
        assert b" 200 " in await client.request()
        assert [scope["client"] for scope in app.scopes] == [None, None]
        assert {link.peer for link in served.link.live} == {"a Unix socket"}
