"""Chunks that an application writes past HTTP/1.1: where they may, when they end, and the heartbeat between them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from tests.link.harness import Application, Client, Served, answer, serve, settings
from tests.sse import Chunks
from triocast.core.wire.sse import COMMENT, chunk
from triocast.link import LINK_KEY

INTERVAL = 0.2  # seconds of the virtual clock
BEATS = settings(ping_interval=INTERVAL, ping_timeout=0.1, write_timeout=3600)
CALM = settings(ping_interval=3600, ping_timeout=3600)


class Streams(Application):
    """Answers with what it is told to write past the protocol, and ends the answer when it is told to."""

    def __init__(self, *headers: tuple[bytes, bytes], deaf: bool = True) -> None:
        super().__init__()
        self.headers = list(headers)
        self.deaf = deaf  # to all but the client's end
        self.begun: bool | None = None
        self.handle: Any = None
        self.end = trio.Event()

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        self.handle = scope["state"][LINK_KEY]
        if scope["path"] == "/plain":
            await answer(send, 200, b"plain")
            return
        if self.deaf:
            self.handle.begin_stream()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        self.begun = self.handle.begin_chunks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_gone, receive, nursery.cancel_scope)
            await self.end.wait()
            await send({"type": "http.response.body", "body": b"last", "more_body": False})
            nursery.cancel_scope.cancel()

    async def _wait_gone(self, receive: Any, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


async def begun(served: Served, request: bytes = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", **how: Any) -> Client:
    """Ask, and return once the server has done all it does then."""
    client = await served.connect(**how)
    await client.send(request)
    await client.until(b"first")
    await trio.testing.wait_all_tasks_blocked()
    return client


CLOSING = (b"connection", b"close")


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_chunks_past_the_protocol_are_part_of_its_answer(alpn: str | None) -> None:
    app = Streams(CLOSING)
    async with serve(app, CALM, tls=alpn is not None) as served:
        client = await begun(served, alpn=alpn)
        assert app.begun
        assert (app.handle.outlet is None) == (alpn is not None)
        for text in (b"one", b"x" * 100_000):
            await app.handle.wait_writable()
            await app.handle.send_frames([chunk(text)])
        app.end.set()
        chunks = Chunks()
        assert await client.exactly(2) == b"\r\n"  # the end of the first
        assert chunks.feed(await client.eof()) == b"one" + b"x" * 100_000 + b"last"
        assert chunks.whole
        await served.wait_empty()


async def test_after_the_end_of_an_answer_no_chunk_is_written() -> None:
    app = Streams(CLOSING)
    async with serve(app, CALM) as served:
        client = await begun(served)
        writer = app.handle.outlet
        assert writer.ready
        app.end.set()
        await client.until(b"0\r\n\r\n")
        assert not writer.ready
        with pytest.raises(trio.BrokenResourceError):
            await app.handle.wait_writable()
        assert await client.eof() == b""


async def test_a_connection_that_goes_on_takes_no_chunks_of_the_answer_before() -> None:
    app = Streams(deaf=False)
    async with serve(app, CALM) as served:
        client = await begun(served)
        writer = app.handle.outlet
        assert writer.ready
        app.end.set()
        await client.until(b"0\r\n\r\n")
        assert b" 200 " in await client.request("/plain")
        assert await client.exactly(5) == b"plain"
        assert not writer.ready
        with pytest.raises(trio.BrokenResourceError):
            await app.handle.wait_writable()


async def test_a_client_that_makes_no_sense_any_more_is_given_no_chunk_after_the_end() -> None:
    """Its answer is cut off, and what it was sent before is not taken from it by a reset."""
    app = Streams(deaf=False)
    async with serve(app, CALM) as served:
        client = await begun(served, b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer = app.handle.outlet
        assert writer.ready
        await client.send(b"no chunk\r\n")
        assert await client.eof() == b"\r\n"
        assert not writer.ready


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_is_not_asked_for_by_get_over_1_1_takes_no_chunks(request_: bytes) -> None:
    app = Streams(CLOSING)
    async with serve(app, CALM) as served:
        client = await begun(served, request_)
        assert app.begun is False
        app.end.set()
        assert b"last" in await client.eof()


@pytest.mark.parametrize("header", [(b"content-encoding", b"gzip"), (b"content-length", b"9")])
async def test_an_answer_that_somebody_encodes_takes_no_chunks(header: tuple[bytes, bytes]) -> None:
    app = Streams(CLOSING, header)
    async with serve(app, CALM) as served:
        client = await begun(served)
        assert app.begun is False
        assert not app.handle.outlet.ready
        app.end.set()
        assert b"last" in await client.eof()


async def test_an_answer_that_is_over_before_it_takes_chunks_takes_none() -> None:
    class Late(Streams):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, b"first")
            self.begun = scope["state"][LINK_KEY].begin_chunks()

    app = Late()
    async with serve(app, CALM) as served:
        client = await begun(served)
        await app.wait_ended()
        assert app.begun is False
        assert b"200" in await client.request()


async def test_a_comment_comes_in_each_interval_and_nobody_need_answer(mock_clock: trio.testing.MockClock) -> None:
    app = Streams(CLOSING)
    async with serve(app, BEATS) as served:
        client = await begun(served)
        assert await client.exactly(2) == b"\r\n"
        for _ in range(20):
            mock_clock.jump(INTERVAL)
            assert await client.exactly(len(chunk(COMMENT))) == chunk(COMMENT)
            await trio.testing.wait_all_tasks_blocked()
        assert app.events == [{"type": "http.request", "body": b"", "more_body": False}]
        client.reset()
        await served.wait_empty()


async def test_no_comment_comes_into_a_chunk_or_after_the_end(mock_clock: trio.testing.MockClock) -> None:
    app = Streams(CLOSING)
    async with serve(app, BEATS, buffer=32 * 1024) as served:
        client = await begun(served, buffer=32 * 1024)
        big = bytes(4 * 1024 * 1024)
        async with trio.open_nursery() as nursery:
            await app.handle.wait_writable()
            nursery.start_soon(app.handle.send_frames, [chunk(big)])
            for _ in range(5):
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(INTERVAL)
            assert await client.exactly(2) == b"\r\n"
            assert await client.exactly(len(chunk(big))) == chunk(big)
        app.end.set()
        await client.until(b"0\r\n\r\n")
        for _ in range(3):
            mock_clock.jump(INTERVAL)
            await trio.testing.wait_all_tasks_blocked()
        assert await client.eof() == b""


@pytest.mark.parametrize("size", [1, 200_000, 3_000_000])
async def test_what_comes_behind_a_stream_is_read_and_dropped_up_to_the_clients_end(size: int) -> None:
    app = Streams(CLOSING)
    async with serve(app, CALM) as served:
        client = await begun(served)
        await client.send(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(size))
        client.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(2):
            await app.handle.wait_gone()
        await app.wait_event("http.disconnect")
        await app.wait_ended()
        assert len(app.scopes) == 1


async def test_a_peer_that_acknowledges_nothing_is_left_to_the_kernel_to_find() -> None:
    app = Streams(CLOSING)
    async with serve(app, settings(write_timeout=7, ping_timeout=11)) as served:
        await begun(served)
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is None:
            pytest.skip("only Linux knows such a time")
        (link,) = served.link.live
        assert link.writer.socket.getsockopt(socket.IPPROTO_TCP, option) == 11_000
