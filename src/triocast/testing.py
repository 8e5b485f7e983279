"""What a test of an application built on Triocast needs: in-memory clients, stalls, a virtual clock, seeds that replay.

Nothing here opens a socket or reads a real clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

import trio
import trio.testing
from quart_trio import QuartTrio

from triocast.core.log import NO_LIMIT
from triocast.core.message import Position
from triocast.core.wire import RAW, Format, Told
from triocast.errors import Close
from triocast.transport import Disconnected

Event = dict[str, Any]
_T = TypeVar("_T")


class Refused(Exception):
    """The application answered the handshake with an HTTP response instead of accepting it."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Closed(Exception):
    """The application closed the client, with this code and reason."""

    code: int
    reason: str


class Client:
    """An in-memory WebSocket client of an application.

    It is not a browser: what the application sends waits, one frame at a time, until `receive` takes it or there is
    room for it, and not at all while the client is stalled.
    """

    def __init__(self, room: float) -> None:
        self.accepted_headers: list[tuple[bytes, bytes]] = []
        self.subprotocol: str | None = None
        self._frames_in, self._frames = trio.open_memory_channel[str | bytes](room)
        self._to_app, self._from_client = trio.open_memory_channel[Event](math.inf)  # a test bounds what it sends
        self._answered = trio.Event()
        self._refusal: tuple[int, bytearray] | None = None
        self._flowing = trio.Event()
        self._flowing.set()
        self._closed: Closed | None = None

    def __repr__(self) -> str:
        state = "open" if self._closed is None else f"closed {self._closed.code}"
        return f"<Client {state}, {self._frames.statistics().current_buffer_used} frames waiting>"

    # What a test does

    async def receive(self) -> str | bytes:
        """Return the next frame's payload. Raises `Closed` after the last, once the application has closed."""
        try:
            return await self._frames.receive()
        except trio.EndOfChannel:
            raise self._closed or Closed(1006, "") from None

    async def send(self, data: str | bytes) -> None:
        """Send a frame: `str` as text, `bytes` as binary."""
        text, binary = (data, None) if isinstance(data, str) else (None, data)
        await self._to_app.send({"type": "websocket.receive", "text": text, "bytes": binary})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close as a client does; the application is told."""
        self._to_app.send_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        await trio.lowlevel.checkpoint()

    async def wait_closed(self) -> Closed:
        """Drop what is still waiting and return how the application closes the client."""
        while True:
            try:
                await self.receive()
            except Closed as closed:
                return closed

    def stall(self) -> None:
        """Stop reading: whatever the application sends now waits."""
        if self._flowing.is_set():  # else who waits would wait for an event that nobody sets
            self._flowing = trio.Event()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()

    # What the server under the application would do

    async def _receive(self) -> Event:
        return await self._from_client.receive()

    async def _send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        match event["type"]:
            case "websocket.accept":
                self.accepted_headers = list(event.get("headers") or [])
                self.subprotocol = event.get("subprotocol")
                self._answered.set()
            case "websocket.send":
                await self._flowing.wait()
                text = event.get("text")
                await self._frames_in.send(text if text is not None else event["bytes"])
            case "websocket.close":
                await self._flowing.wait()
                self._end(Closed(event.get("code", 1000), event.get("reason") or ""))
            case "websocket.http.response.start":
                self._refusal = (event["status"], bytearray())
            case "websocket.http.response.body" if self._refusal is not None:
                self._refusal[1].extend(event.get("body", b""))

    def _end(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
            self._frames_in.close()
        if not self._answered.is_set() and self._refusal is None:
            self._refusal = (403, bytearray())
        self._answered.set()

    async def _run(self, app: QuartTrio, scope: Event) -> None:
        self._to_app.send_nowait({"type": "websocket.connect"})
        try:
            await app(scope, self._receive, self._send)  # type: ignore[arg-type]
        finally:
            self._end(Closed(1006, ""))

    async def _wait_answered(self) -> None:
        await self._answered.wait()
        if self._refusal is not None:
            status, body = self._refusal
            raise Refused(status, bytes(body))


class World:
    """An application that runs in memory, started and stopped as a server would."""

    def __init__(self, app: QuartTrio, nursery: trio.Nursery) -> None:
        self.app = app
        self.http = app.test_client()  # Quart's own, for requests
        self._nursery = nursery

    async def connect(
        self, path: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = (), *, room: float = math.inf
    ) -> Client:
        """Open a WebSocket on `path` (with its query string) and return once it is accepted.

        `room` is how many frames wait in the client before a send waits; 0 for a client that must be read from.
        Raises `Refused` when the application answers otherwise. The client lives until the world ends.
        """
        client = Client(room)
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._nursery.start_soon(client._run, self.app, _scope(path, list(pairs)))  # noqa: SLF001
        await client._wait_answered()  # noqa: SLF001
        return client


@asynccontextmanager
async def simulate(app: QuartTrio) -> AsyncIterator[World]:
    """Start `app` in memory, give a `World` to use it by, and stop it at the end of the block."""
    async with app.test_app(), trio.open_nursery() as nursery:
        yield World(app, nursery)
        nursery.cancel_scope.cancel()


def run_seeded(main: Callable[..., Awaitable[_T]], *args: object, seed: int) -> _T:
    """Run `main` on a virtual clock, tasks scheduled in an order that `seed` decides: the same run every time.

    trio shuffles the order of tasks from a random source of its own, and what is spread over time is drawn from that of
    `random`; all three are pinned while `main` runs.
    """
    core = trio._core._run  # noqa: SLF001 - trio's documented way for hypothesis, not exported
    allowed, state = core._ALLOW_DETERMINISTIC_SCHEDULING, core._r.getstate()  # noqa: SLF001
    core._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # noqa: SLF001
    core._r.setstate(random.Random(seed).getstate())  # noqa: S311, SLF001 - a schedule, not a secret
    drawn = random.getstate()
    random.seed(seed)
    try:
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc] # noqa: SLF001
        core._r.setstate(state)  # noqa: SLF001
        random.setstate(drawn)


class MemoryTransport:
    """A client without an application around it, for tests of hubs and groups: it records what it is given.

    `stall` makes writes wait; `vanish` ends the client without a word.
    """

    name = "memory"
    outlet = None
    limit = NO_LIMIT

    def __init__(self, form: Format = RAW) -> None:
        self.format = form
        self.received: list[Told | str | bytes] = []
        self.closed: Close | None = None
        self.positions: list[Position] = []
        self._inbound_send, self._inbound = trio.open_memory_channel[str | bytes](math.inf)
        self._gone: Disconnected | None = None
        self._flowing = trio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Stop reading."""
        if self._flowing.is_set():  # else who waits would wait for an event that nobody sets
            self._flowing = trio.Event()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()

    def vanish(self, code: int = 1006, reason: str = "") -> None:
        """Be gone: reads end, writes break."""
        self._gone = Disconnected(code, reason)
        self._inbound_send.close()
        self._flowing.set()

    def say(self, data: str | bytes) -> None:
        """Send a message to the application."""
        self._inbound_send.send_nowait(data)

    async def open(self, positions: Sequence[Position]) -> None:
        """Nothing to answer; `positions` are kept for a test to see."""
        self.positions = list(positions)
        await trio.lowlevel.checkpoint()

    async def wait_writable(self) -> None:
        """Wait while the client is stalled."""
        await self._flowing.wait()

    async def send(self, told: Sequence[Told]) -> None:
        """Record what the client is told, in its own time."""
        for each in told:
            await self._record(each)

    async def send_data(self, data: str | bytes) -> None:
        """Record the payload, in the client's own time."""
        await self._record(data)

    async def receive(self) -> str | bytes:
        """Return what the client said."""
        try:
            return await self._inbound.receive()
        except trio.EndOfChannel:
            raise self._gone or Disconnected() from None

    async def close(self, close: Close) -> None:
        """Record the close, in the client's own time."""
        await self._flowing.wait()
        if self._gone is None:
            self.closed = close

    def abort(self) -> None:
        """Cut the client off."""
        self.vanish()

    async def _record(self, item: Told | str | bytes) -> None:
        await trio.lowlevel.checkpoint()
        await self._flowing.wait()
        if self._gone is not None:
            raise trio.BrokenResourceError("the client has vanished")
        self.received.append(item)


def _scope(target: str, headers: list[tuple[str, str]]) -> Event:
    path, _, query = target.partition("?")
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers = [("host", "localhost"), *headers]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
