"""A peer that is gone without a word is found by a ping, and nobody else is ended by one."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.link.harness import PING, PONG, TEXT, Application, Client, Served, answer, frame, serve, settings
from triocast.link.heartbeat import EARLY, Beat, Heartbeat

INTERVAL, TIMEOUT = 0.2, 0.1  # seconds of the virtual clock; the whole of a test has fifteen
PINGED = settings(ping_interval=INTERVAL, ping_timeout=TIMEOUT, write_timeout=3600)
SOON = INTERVAL * (1 - EARLY) - 0.001
"""A silence after which nobody is pinged yet."""


async def connected(served: Served, **how: Any) -> Client:
    """Connect a WebSocket, and return once the server has done all it does then: its heartbeat has begun."""
    client = await served.websocket(**how)
    await trio.testing.wait_all_tasks_blocked()
    return client


async def echo(client: Client, text: bytes) -> None:
    """Send a message, and read until it has come back: all that was sent before it has been understood."""
    await client.send(frame(TEXT, text))
    assert await client.frame() == (TEXT, text)


async def answered_ping(client: Client) -> None:
    assert await client.frame() == (PING, b"")
    await client.send(frame(PONG))


async def idle(mock_clock: trio.testing.MockClock, seconds: float) -> None:
    """Let time pass, and the server do all that it does then."""
    mock_clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_peer_that_never_answers_is_reset_and_its_handler_told(
    alpn: str | None, mock_clock: trio.testing.MockClock
) -> None:
    app = Application()
    async with serve(app, PINGED, tls=alpn is not None) as served:
        client = await connected(served, alpn=alpn)
        mock_clock.jump(INTERVAL)
        assert await client.frame() == (PING, b"")
        await idle(mock_clock, TIMEOUT - 0.001)
        assert app.events == [{"type": "websocket.connect"}]
        mock_clock.jump(0.001)
        assert (await app.wait_event("websocket.disconnect"))["code"] == 1006
        with pytest.raises(trio.BrokenResourceError):
            await client.eof()
        await served.wait_empty()


async def test_a_peer_that_answers_lives(mock_clock: trio.testing.MockClock) -> None:
    async with serve(Application(), PINGED) as served:
        client = await connected(served)
        for _ in range(10):
            mock_clock.jump(INTERVAL)
            await answered_ping(client)
            await trio.testing.wait_all_tasks_blocked()
        await idle(mock_clock, TIMEOUT)
        await echo(client, b"still here")


async def test_any_byte_is_an_answer(mock_clock: trio.testing.MockClock) -> None:
    async with serve(Application(), PINGED) as served:
        client = await connected(served)
        mock_clock.jump(INTERVAL)
        assert await client.frame() == (PING, b"")
        await echo(client, b"busy")
        await idle(mock_clock, TIMEOUT)
        await echo(client, b"still here")


async def test_a_peer_that_sends_something_is_not_pinged(mock_clock: trio.testing.MockClock) -> None:
    async with serve(Application(), PINGED) as served:
        client = await connected(served)
        for number in range(20):
            await idle(mock_clock, SOON)
            await echo(client, b"%d" % number)  # a ping would have come before it


class Pours(Application):
    """Sends more than the kernels hold, then echoes."""

    flood = bytes(8 * 1024 * 1024)

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": self.flood})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "echo"})


async def test_a_peer_that_is_being_written_to_is_not_pinged(mock_clock: trio.testing.MockClock) -> None:
    app = Pours()
    async with serve(app, PINGED, buffer=32 * 1024) as served:
        client = await connected(served, buffer=32 * 1024)
        for _ in range(5):
            await idle(mock_clock, INTERVAL + TIMEOUT)
        assert await client.frame() == (2, app.flood)
        await client.send(frame(TEXT, b"x"))
        assert await client.frame() == (TEXT, b"echo")


class Deaf(Application):
    """Receives nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.listen = trio.Event()

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.listen.wait()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"], "bytes": event["bytes"]})


async def test_a_peer_whose_handler_reads_nothing_is_not_taken_for_gone(mock_clock: trio.testing.MockClock) -> None:
    """Its pongs would be behind what it has sent before."""
    app = Deaf()
    async with serve(app, PINGED) as served:
        client = await connected(served)
        texts = [b"x" * 50_000 for _ in range(20)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"".join(frame(TEXT, text) for text in texts))
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                await idle(mock_clock, INTERVAL + TIMEOUT)
            app.listen.set()
            for text in texts:
                assert await client.frame() == (TEXT, text)


async def test_what_came_while_the_server_slept_is_an_answer(mock_clock: trio.testing.MockClock) -> None:
    """A process that was stopped, or a machine that was asleep, finds the deadline past and the pong unread."""
    async with serve(Application(), PINGED) as served:
        client = await connected(served)
        mock_clock.jump(INTERVAL)
        assert await client.frame() == (PING, b"")
        assert client.socket._sock.send(frame(PONG)) == 6  # type: ignore[attr-defined]  # without a checkpoint
        mock_clock.jump(5)
        await trio.testing.wait_all_tasks_blocked()
        await echo(client, b"still here")


async def test_requests_are_not_pinged(mock_clock: trio.testing.MockClock) -> None:
    class Slow(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await trio.sleep(10 * INTERVAL)
            await answer(send, 200, b"late")

    async with serve(Slow(), PINGED) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(11):
            await idle(mock_clock, INTERVAL)
        response = await client.eof()
        assert response.startswith(b"HTTP/1.1 200")
        assert response.endswith(b"late")


async def test_a_client_that_is_being_closed_is_not_pinged(mock_clock: trio.testing.MockClock) -> None:
    class Closes(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})

    async with serve(Closes(), settings(ping_interval=0.1, ping_timeout=0.1, close_timeout=60)) as served:
        client = await connected(served)
        assert await client.close() == (1000, "")
        for _ in range(10):
            await idle(mock_clock, 0.1)
        assert len(served.link.live) == 1
        await client.send(frame(8, b"\x03\xe8"))
        assert await client.eof() == b""


async def test_clients_that_connected_together_are_not_pinged_together() -> None:
    due = [Heartbeat(INTERVAL, TIMEOUT, now=0.0).due for _ in range(100)]
    assert all(INTERVAL * (1 - EARLY) <= each <= INTERVAL for each in due)
    assert len(set(due)) > 1


def test_the_clock_begins_anew_when_it_has_rested() -> None:
    heartbeat = Heartbeat(INTERVAL, TIMEOUT, now=0.0)
    assert heartbeat.judge(INTERVAL, resting=False) is Beat.PING
    assert heartbeat.due == INTERVAL + TIMEOUT
    assert heartbeat.judge(heartbeat.due, resting=True) is Beat.REST  # a write began, which has its own deadline
    assert heartbeat.due >= INTERVAL + TIMEOUT + SOON
    assert heartbeat.judge(heartbeat.due, resting=False) is Beat.PING
    assert heartbeat.judge(heartbeat.due, resting=False) is Beat.LOST
