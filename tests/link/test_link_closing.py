"""Closing ends: what comes after it is discarded, and the last words arrive."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.link.harness import BINARY, TEXT, Application, Client, answer, close_frame, frame, serve, settings

MEGABYTE = 1024 * 1024


PATIENT = settings(close_timeout=3600)


class Closes(Application):
    """Closes whoever connects, after the first message."""

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": 4321, "reason": "because"})


class Ends(Application):
    """Leaves whoever connects without a close."""

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})


async def flood(client: Client) -> None:
    """Send for ever, or until nobody takes it."""
    try:
        while True:
            await client.send(frame(BINARY, bytes(32 * 1024)))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_close_arrives_at_a_client_that_keeps_sending(alpn: str | None) -> None:
    app = Closes()
    async with serve(app, PATIENT, tls=alpn is not None) as served:
        clients = [await served.websocket(alpn=alpn) for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(flood, client)
            for client in clients:
                assert await client.close() == (4321, "because")
            await app.wait_ended(10)
            nursery.cancel_scope.cancel()
        served.close_clients()
        await served.wait_empty()


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_clients_that_never_stop_sending_are_gone_after_close_timeout(alpn: str | None) -> None:
    app = Closes()
    async with serve(app, tls=alpn is not None) as served:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(flood, await served.websocket(alpn=alpn))
        await app.wait_ended(10)
        await served.wait_empty()


@pytest.mark.parametrize("app", [Closes(), Ends()])
async def test_a_client_that_never_answers_a_close_is_gone_after_close_timeout(app: Application) -> None:
    async with serve(app) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, b"hello"))
        await client.close()
        await served.wait_empty()


async def test_the_answer_to_a_close_ends_the_connection_at_once() -> None:
    async with serve(Closes(), PATIENT) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, b"hello"))
        await client.close()
        await client.send(frame(TEXT, b"on its way") + close_frame(4321))
        await served.wait_empty()


async def test_two_closes_that_cross_end_the_connection_at_once_after_both_are_out() -> None:
    go_on = trio.Event()

    class Crosses(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, {"type": "websocket.send", "bytes": bytes(8 * MEGABYTE)})
                await go_on.wait()
                await send({"type": "websocket.close", "code": 4321, "reason": "because"})

    async with serve(Crosses(), settings(close_timeout=3600, write_timeout=3600)) as served:
        client = await served.websocket()
        begun = await client.exactly(1)
        go_on.set()
        await client.send(close_frame(4001))  # ours is waiting behind the message
        client.received = begun + client.received
        assert await client.close() == (4321, "because")
        assert await client.eof() == b""
        await served.wait_empty()


async def test_a_client_that_leaves_after_a_close_ends_the_connection_at_once() -> None:
    async with serve(Closes(), PATIENT) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, b"hello"))
        await client.close()
        await client.stream.aclose()
        await served.wait_empty()


async def test_a_handler_that_ends_without_a_close_is_a_failure_to_its_client() -> None:
    async with serve(Ends()) as served:
        client = await served.websocket()
        code, reason = await client.close()
        assert code == 1011
        assert reason
        assert await client.eof() == b""


async def test_a_handler_cut_off_by_a_stop_asks_its_client_to_come_back() -> None:
    async with serve(Application()) as served:
        client = await served.websocket()
        await served.context.terminated.set()
        served.stop()
        assert (await client.close())[0] == 1012
        await served.wait_empty()


async def test_the_client_s_own_code_and_reason_reach_the_handler() -> None:
    app = Application()
    async with serve(app) as served:
        client = await served.websocket()
        await client.send(close_frame(4001, "lunch"))
        assert await client.close() == (4001, "lunch")
        await app.wait_ended()
        assert app.events[-1] == {"type": "websocket.disconnect", "code": 4001, "reason": "lunch"}


async def test_a_close_without_a_code_is_1005() -> None:
    app = Application()
    async with serve(app) as served:
        client = await served.websocket()
        await client.send(frame(8))
        assert await client.frame() == (8, b"")
        await app.wait_ended()
        assert app.events[-1] == {"type": "websocket.disconnect", "code": 1005, "reason": ""}


async def test_nothing_is_sent_after_a_close() -> None:
    class Talks(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            await send({"type": "websocket.send", "text": "and another thing"})
            await send({"type": "websocket.close", "code": 1001})

    async with serve(Talks()) as served:
        client = await served.websocket()
        assert await client.close() == (1000, "")
        assert await client.eof() == b""


async def test_a_reason_too_long_for_a_frame_is_cut() -> None:
    class Explains(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000, "reason": "é" * 100})

    async with serve(Explains()) as served:
        client = await served.websocket()
        assert await client.close() == (1000, "é" * 61)


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_response_arrives_at_a_client_that_keeps_uploading(alpn: str | None) -> None:
    class Refuses(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 413, b"too much")

    app = Refuses()
    async with serve(app, PATIENT, tls=alpn is not None) as served:
        client = await served.connect(alpn=alpn)
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload, client, head)
            assert (await client.until(b"too much")).startswith(b"HTTP/1.1 413 ")
            assert await client.eof() == b""
            nursery.cancel_scope.cancel()
        served.close_clients()
        await app.wait_ended()
        await served.wait_empty()


async def upload(client: Client, head: bytes) -> None:
    try:
        await client.send(head)
        while True:
            await client.send(bytes(MEGABYTE))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def test_a_small_body_that_nobody_reads_does_not_end_a_kept_alive_connection() -> None:
    class Ignores(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, b"whatever")

    async with serve(Ignores()) as served:
        client = await served.connect()
        for _ in range(3):
            await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody")
            assert (await client.until(b"whatever")).startswith(b"HTTP/1.1 200 ")
