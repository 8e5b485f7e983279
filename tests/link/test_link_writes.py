"""A write ends: with the bytes gone, or with the connection."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from tests.link.harness import PATIENCE, QUICK, TEXT, Application, answer, frame, serve, settings
from triocast.link import LINK_KEY
from triocast.link.writing import Writer

MEGABYTE = 1024 * 1024
FLOOD = b"x" * (8 * MEGABYTE)
"""More than the buffers of two kernels, however generous."""

PATIENT = settings(write_timeout=3600)


async def _drain(sock: trio.socket.SocketType) -> None:
    while await sock.recv(MEGABYTE):
        pass


class Pours(Application):
    """Sends its flood to whoever connects, then listens."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = trio.Event()

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": FLOOD})
        self.sent.set()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, FLOOD)
        self.sent.set()


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_client_that_reads_nothing_is_reset_and_its_handler_told(alpn: str | None) -> None:
    app = Pours()
    async with serve(app, tls=alpn is not None) as served:
        client = await served.websocket(alpn=alpn)
        assert (await app.wait_event("websocket.disconnect"))["code"] == 1006
        await served.wait_empty()
        # What the kernel had taken may still come, and then the reset, not an end.
        with pytest.raises(ConnectionResetError):
            await _drain(client.socket)


async def test_a_client_that_reads_no_response_is_reset() -> None:
    app = Pours()
    async with serve(app) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await app.wait_ended()
        await served.wait_empty()


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_client_that_reads_slowly_lives(alpn: str | None, mock_clock: trio.testing.MockClock) -> None:
    """One write takes it several write_timeouts, and in each it reads more than the kernels hold for it."""
    app = Pours()
    async with serve(app, settings(write_timeout=1), tls=alpn is not None, buffer=32 * 1024) as served:
        client = await served.websocket(alpn=alpn, buffer=32 * 1024)
        for _ in range(7):
            mock_clock.jump(0.9)
            await client.exactly(MEGABYTE)
        assert not app.sent.is_set()
        await client.exactly(MEGABYTE)
        await app.sent.wait()


async def test_who_waits_behind_a_stuck_write_is_freed_with_it() -> None:
    class Crowd(Pours):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(send, {"type": "websocket.send", "bytes": FLOOD})

    app = Crowd()
    async with serve(app) as served:
        await served.websocket()
        await app.wait_ended()
        await served.wait_empty()


async def test_a_handler_that_is_cancelled_does_not_cut_a_frame_in_two() -> None:
    class Impatient(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.cancel_when_begun, scope)
                    await send({"type": "websocket.send", "bytes": FLOOD})
            assert scope.cancel_called
            await send({"type": "websocket.send", "text": "after"})

        async def cancel_when_begun(self, scope: trio.CancelScope) -> None:
            await begun.wait()
            scope.cancel()

    begun = trio.Event()
    async with serve(Impatient(), PATIENT) as served:
        client = await served.websocket()
        begun_with = await client.exactly(1)
        begun.set()
        await trio.testing.wait_all_tasks_blocked()
        client.received = begun_with + client.received
        assert await client.frame() == (2, FLOOD)
        assert await client.frame() == (TEXT, b"after")


async def test_a_loop_of_sends_after_the_end_lets_others_run() -> None:
    class Endless(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "text": "on and on"})

        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"on and on", "more_body": True})

    async with serve(Endless()) as served:
        first, second = await served.websocket(), await served.connect()
        await second.request()
        await first.stream.aclose()
        await second.stream.aclose()
        for link in tuple(served.link.live):
            with trio.fail_after(PATIENCE):
                await link.gone.wait()
        third = await served.websocket()
        assert (await third.frame())[0] == TEXT


async def test_resetting_all_ends_every_connection_whatever_waits() -> None:
    app = Pours()
    async with serve(app, PATIENT) as served:
        stuck, idle = await served.websocket(), await served.connect()
        await stuck.exactly(MEGABYTE)
        assert len(served.link.live) == 2
        served.link.reset_all()
        await app.wait_ended()
        await served.wait_empty()
        assert await idle.rest() == b""


async def test_a_handler_can_abort_its_connection() -> None:
    class Aborts(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            handle = scope["state"][LINK_KEY]
            handle.abort()
            handle.abort()
            assert handle.is_gone
            await send({"type": "websocket.send", "text": "nobody hears this"})

    app = Aborts()
    async with serve(app) as served:
        client = await served.websocket()
        with pytest.raises(trio.BrokenResourceError):
            await client.eof()
        await app.wait_ended()
        await served.wait_empty()


async def test_cancelling_a_server_with_a_slow_client_ends_in_close_timeout() -> None:
    app = Pours()
    async with serve(app, settings(write_timeout=3600, close_timeout=0.2), buffer=32 * 1024) as served:
        client = await served.websocket(buffer=32 * 1024)
        await client.exactly(64 * 1024)
        served.stop()
        await served.wait_empty()
    assert app.ended == 1


async def test_a_last_call_ends_writing_although_there_is_progress(mock_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        writer = Writer(trio.SocketStream(ours), timeout=10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send_all, FLOOD)
            await theirs.recv(1)
            writer.last_call(15)
            mock_clock.jump(9)
            await _take(theirs, MEGABYTE)
            assert not writer.closed
            mock_clock.jump(7)
        assert writer.closed


async def _take(sock: trio.socket.SocketType, size: int) -> None:
    while size > 0:
        size -= len(await sock.recv(size))


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_loop_of_sends_to_a_client_that_reads_can_be_cancelled(kind: str) -> None:
    caught: list[bool] = []
    begun = trio.Event()

    class Loops(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await self._loop(send, {"type": "websocket.send", "text": "on and on"})

        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self._loop(send, {"type": "http.response.body", "body": b"on and on", "more_body": True})

        async def _loop(self, send: Any, event: Any) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel, scope)
                    for _ in range(2000):
                        await send(event)
            caught.append(scope.cancelled_caught)

        async def _cancel(self, scope: trio.CancelScope) -> None:
            await begun.wait()
            scope.cancel()

    async with serve(Loops()) as served:
        client = await served.connect()
        await (client.upgrade() if kind == "websocket" else client.request())
        begun.set()
        await client.rest()
    assert caught == [True]


async def test_nothing_is_written_once_a_writer_is_finished() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        writer = Writer(trio.SocketStream(ours), QUICK.write_timeout)
        await writer.send_all(b"first")
        await writer.finish()
        await writer.send_all(b"second")
        assert await theirs.recv(100) == b"first"
        assert await theirs.recv(100) == b""
        writer.close()
        await writer.send_all(b"third")
        await writer.finish()
        assert writer.closed


async def test_a_writer_never_writes_to_the_stranger_who_got_its_number() -> None:
    ours, theirs = trio.socket.socketpair()
    writer = Writer(trio.SocketStream(ours), QUICK.write_timeout)
    number = ours.fileno()
    writer.reset()
    one, other = socket.socketpair()
    with one, other, theirs:
        assert number in {one.fileno(), other.fileno()}
        one.setblocking(False)
        other.setblocking(False)
        await writer.send_all(frame(TEXT, b"a group's bytes"))
        for end in (one, other):
            with pytest.raises(BlockingIOError):
                end.recv(100)
