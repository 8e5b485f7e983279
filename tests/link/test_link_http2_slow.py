"""HTTP/2 over TLS: who takes nothing of what is pushed is ended in time, and nobody else feels it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.errors
import h2.events
import h2.settings
import pytest
import trio
import trio.testing

from tests.link.harness import Application, Served, serve, settings
from tests.link.test_link_http2 import HEADERS, MEGABYTE, H2Client
from tests.memory import flat_memory
from triocast.link.stall import unacknowledged

TIMEOUT = 1.0
STEP = TIMEOUT / 16
TICK = b"tick "
SETTINGS = settings(write_timeout=TIMEOUT)
PIECE = bytes(16 * 1024)


class Pushes(Application):
    """Pushes without end to whoever asks for a flood, and a tick to all others each time that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []  # the paths of those who were told that their client has gone
        self._listeners: set[trio.MemorySendChannel[bytes]] = set()

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flood if scope["path"] == "/flood" else self._tick, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            self.told.append(scope["path"])
            nursery.cancel_scope.cancel()

    def tick(self) -> None:
        for listener in self._listeners:
            listener.send_nowait(TICK)

    async def _flood(self, send: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})

    async def _tick(self, send: Callable[[Any], Awaitable[None]]) -> None:
        listener, ticks = trio.open_memory_channel[bytes](1_000)
        self._listeners.add(listener)
        try:
            async for tick in ticks:
                await send({"type": "http.response.body", "body": tick, "more_body": True})
        finally:
            self._listeners.discard(listener)


def asking(path: str) -> list[tuple[str, str]]:
    return [*HEADERS[:3], (":path", path)]


class Witness:
    """A stream that is given every tick."""

    def __init__(self, client: H2Client, stream_id: int) -> None:
        self._client = client
        self._stream_id = stream_id
        self._count = 0

    async def sees_a_tick(self) -> None:
        self._count += 1
        while self._client.body.get(self._stream_id, b"") != TICK * self._count:
            assert await self._client.read()


async def connect(served: Served, *, stream_window: int = 65_535, connection_window: int = 65_535) -> H2Client:
    client = H2Client(await served.connect(buffer=32 * 1024, alpn="h2"))
    window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: stream_window}
    client.h2.local_settings = h2.settings.Settings(client=True, initial_values=window)
    await client.start()
    if connection_window > 65_535:
        await client.open_window(connection_window - 65_535)
    return client


async def witness(served: Served) -> Witness:
    client = await connect(served)
    return Witness(client, await client.request(asking("/ticks")))


@asynccontextmanager
async def pushing(unix: Path | None = None) -> AsyncIterator[tuple[Pushes, Served]]:
    app = Pushes()
    async with serve(app, SETTINGS, tls=True, unix=unix, buffer=32 * 1024) as served:
        yield app, served


async def until_told(app: Pushes, clock: trio.testing.MockClock, *witnesses: Witness) -> float:
    """Let time pass in small steps until the flood is ended; return the seconds that it took.

    In every step every witness is given a tick, for which no time passes.
    """
    began = trio.current_time()
    while "/flood" not in app.told:
        assert trio.current_time() < began + 3 * TIMEOUT, "a client that takes nothing is kept"
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(STEP)
        await trio.testing.wait_all_tasks_blocked()
        app.tick()
        for each in witnesses:
            await each.sees_a_tick()
    return trio.current_time() - began


async def read_on(client: H2Client) -> None:
    while await client.read():
        pass


async def test_a_client_that_stops_reading_is_reset_in_time_and_other_connections_get_all_at_once(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with pushing() as (app, served):
        others = [await witness(served) for _ in range(3)]
        stalled = await connect(served, stream_window=64 * MEGABYTE, connection_window=64 * MEGABYTE)
        with flat_memory():
            await stalled.request(asking("/flood"))
            await stalled.request(asking("/ticks"))
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert TIMEOUT <= await until_told(app, mock_clock, *others) <= TIMEOUT * 1.5
        await app.wait_ended(2)  # both of its streams
        assert len(served.link.live) == len(others)
        with pytest.raises(ConnectionResetError):  # what the kernel had taken may still come, and then the reset
            while await stalled.client.socket.recv(MEGABYTE):
                pass
        app.tick()
        for each in others:
            await each.sees_a_tick()


async def test_a_client_that_reads_and_opens_no_window_loses_that_stream_in_time_and_no_other(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async with pushing() as (app, served):
        other = await witness(served)
        shut = await connect(served, connection_window=64 * MEGABYTE)
        with flat_memory():
            ticks = Witness(shut, await shut.request(asking("/ticks")))
            flood = await shut.request(asking("/flood"))
            while len(shut.body.get(flood, b"")) < 65_535:
                await shut.read()
            assert TIMEOUT <= await until_told(app, mock_clock, other, ticks) <= TIMEOUT + 2 * STEP
            assert await shut.until_reset(flood) == h2.errors.ErrorCodes.CANCEL
        assert len(shut.body[flood]) == 65_535
        assert app.told == ["/flood"]
        assert len(served.link.live) == 2
        app.tick()
        await ticks.sees_a_tick()


async def test_a_client_that_reads_and_shuts_the_window_of_its_connection_loses_its_streams_in_time(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async with pushing() as (app, served):
        other = await witness(served)
        shut = await connect(served, stream_window=64 * MEGABYTE)
        with flat_memory():
            floods = [await shut.request(asking("/flood")) for _ in range(3)]
            nursery.start_soon(read_on, shut)
            assert TIMEOUT <= await until_told(app, mock_clock, other) <= TIMEOUT + 2 * STEP
            await app.wait_ended(3)
        for flood in floods:
            await _reset_seen(shut, flood)
        assert sum(map(len, shut.body.values())) == 65_535
        nursery.cancel_scope.cancel()


async def _reset_seen(client: H2Client, stream_id: int) -> None:
    while not any(isinstance(event, h2.events.StreamReset) and event.stream_id == stream_id for event in client.events):
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a peer has taken")
async def test_a_client_that_reads_slowly_but_steadily_keeps_its_streams(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """For longer than the timeout no stream gets anything into the kernel; their windows are open, so it is no fault of
    theirs, and the connection lives because what the kernel holds gets less."""
    async with pushing(unix=tmp_path / "socket") as (app, served):
        slow = await connect(served, stream_window=64 * MEGABYTE, connection_window=64 * MEGABYTE)
        floods = [await slow.request(asking("/flood")) for _ in range(2)]
        (link,) = served.link.live
        for _ in range(12):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(TIMEOUT * 0.9)
            await _read_until_seen(slow, link.writer.socket)
        assert app.told == []
        assert not [event for event in slow.events if isinstance(event, h2.events.StreamReset)]
        assert all(slow.body[flood] for flood in floods)


async def _read_until_seen(client: H2Client, server: trio.socket.SocketType) -> None:
    """Read until the server's kernel holds less."""
    before = unacknowledged(server)
    assert before
    while (now := unacknowledged(server)) is not None and now >= before:
        before = now
        assert await client.read()
