"""Server-sent events as the answer to an HTTP request: the portable way by ASGI, and the direct way over HTTP/1.1.

It touches no socket, and decides nothing about who may listen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from typing import Any, Protocol

import trio

from triocast.core.listening import Listening
from triocast.core.message import Gap, Position
from triocast.core.wire import Told
from triocast.core.wire.format import Format, Joined, Presence
from triocast.core.wire.sse import (
    COMMENT,
    EVENTS,
    Events,
    chunk,
    close_event,
    data_event,
    id_line,
    position_of,
    retry_line,
)
from triocast.errors import Close
from triocast.settings import Settings
from triocast.subscription import Outlet
from triocast.transport import Disconnected
from triocast.transports.asgi import Event, Handle, Receive, Send, broken_by_errors

# Seconds after which a client comes back, at random in between: after a restart all of them want to at once.
RETRY = (1.0, 3.0)
HEAD = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store, no-transform"),  # no-transform: nobody on the way compresses what waits
    (b"x-accel-buffering", b"no"),  # nginx hands on what comes, when it comes
)


class StreamHandle(Handle, Protocol):
    """What the server under a connection can do for an answer without end; `triocast.link.Handle` is one."""

    def begin_stream(self) -> None:
        """Nothing but the client's end is of interest from here on."""

    def begin_chunks(self) -> bool:
        """Have `send_frames` take chunks of the answer whose head was sent; False where that can't be."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has not been answered: its ASGI scope and callables, and headers to answer it with."""

    scope: dict[str, Any]
    receive: Receive
    send: Send
    headers: Sequence[tuple[bytes, bytes]] = ()


class PortableEvents:
    """Events through ASGI's `send`, on any server. Where that gives writes no deadline, one that lasts longer than
    `write_timeout` breaks the transport; a comment is sent every `ping_interval`.

    A client of one group has its position in each event; of several, all their positions on a line before each.
    """

    name = "portable events"

    def __init__(self, call: Call, listening: Listening, settings: Settings, handle: StreamHandle | None) -> None:
        many = len(listening.groups) > 1
        self._with_id, self._without = EVENTS[listening.format]
        self.format: Format = self._without if many else self._with_id
        self.outlet: Outlet | None = None
        self._handle = handle
        self._call = call
        self._listening = listening
        self._known: dict[str, str] | None = {} if many else None  # of several groups: what the client has, by group
        self._interval = settings.ping_interval
        self._timeout = inf if handle is not None and handle.progress_watched else settings.write_timeout
        self._turn = trio.Lock()  # comments are written by whoever waits for the client's end

    @property
    def _http1(self) -> bool:
        return str(self._call.scope.get("http_version", "1.1")).startswith("1")

    async def open(self, positions: Sequence[Position]) -> None:
        """Answer, and say at once when to come back: proxies send no head without a body."""
        if self._known is not None:
            since = self._listening.since
            for group, start in zip(self._listening.groups, positions, strict=False):  # none, if it is to be closed
                # What it asked for, until it is told what it can have of that.
                self._known[group] = since.get(group, start).text
        if self._handle is not None:
            self._handle.begin_stream()
        # Over HTTP/1 what came behind this request is dropped, so the connection can't go on after it.
        closing = [(b"connection", b"close")] if self._http1 else []
        headers = [*HEAD, *closing, *self._call.headers]
        with suppress(trio.BrokenResourceError):  # then the client's end is seen by whoever receives
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send(_body(retry_line(random.uniform(*RETRY))))  # noqa: S311 - no secret, only a spread

    async def wait_writable(self) -> None:
        """Return at once: the write itself waits."""
        await trio.lowlevel.checkpoint()

    async def send(self, told: Sequence[Told]) -> None:
        """Write the events, in one go."""
        await self._send(_body(b"".join([head + form.payload(each) for head, form, each in self._events(told)])))

    async def send_data(self, data: str | bytes) -> None:
        """Write an event for this client alone; it is in no group's log, and changes no position."""
        await self._send(_body(_own_event(data)))

    async def receive(self) -> str | bytes:
        """Wait for the client's end, with a comment now and then; whatever it sends is dropped."""
        while True:
            event: Event | None = None
            with trio.move_on_after(self._interval):
                event = await self._call.receive()
            if event is None:
                await self._comment()
            elif event["type"] == "http.disconnect":
                raise self._disconnected()

    async def close(self, close: Close) -> None:
        """Say why, and end the answer."""
        with suppress(trio.BrokenResourceError):
            await self._send(_body(close_event(close), more=False))

    def abort(self) -> None:
        """Reset the connection, where the server can and nobody else uses it; over HTTP/2 the stream is reset when its
        handler ends without having ended the answer."""
        if self._handle is not None and self._http1:
            self._handle.abort()

    def _events(self, told: Sequence[Told]) -> Iterator[tuple[bytes, Events, Told]]:
        """Return for each event what goes before it, and the format to write it in.

        A beginning that a gap follows does not move the client's position, which is the gap's to do: cut off between
        the two, the client would never be told of the gap.
        """
        for each, following in zip_longest(told, told[1:]):
            before_gap = isinstance(each, Joined) and isinstance(following, Gap)
            if self._known is None or isinstance(each, Presence):  # who is there has no position
                yield b"", self._without if before_gap else self._with_id, each
                continue
            if not before_gap:
                self._known[each.group] = str(position_of(each))
            yield id_line(self._known.values()), self._without, each

    async def _comment(self) -> None:
        if self._turn.locked():  # something is being written
            return
        try:
            await self._send(_body(COMMENT))
        except trio.BrokenResourceError:
            raise self._disconnected() from None

    def _disconnected(self) -> Disconnected:
        return Disconnected(eviction=self._handle.eviction if self._handle is not None else None)

    async def _send(self, event: Event) -> None:
        async with self._turn:
            with trio.move_on_after(self._timeout) as deadline, broken_by_errors():
                await self._call.send(event)
        if deadline.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError(f"no progress for {self._timeout} s")


class DirectEvents(PortableEvents):
    """Chunks through the handle; while the client keeps up, the broadcaster writes to its `outlet` itself, if it
    listens to one group. Where the answer turns out to be one that takes no chunks, the portable way."""

    name = "direct events"

    def __init__(self, call: Call, listening: Listening, settings: Settings, handle: StreamHandle) -> None:
        super().__init__(call, listening, settings, handle)
        if self._known is None:  # else no two clients are written the same bytes
            self.outlet = handle.outlet
        self._link = handle
        self._direct = False

    async def open(self, positions: Sequence[Position]) -> None:
        """Answer through h11; chunks follow past it, and the comments between them are the link's."""
        await super().open(positions)
        self._direct = self._link.begin_chunks()
        if self._direct:
            self._interval = inf

    async def wait_writable(self) -> None:
        """Write what is left of a chunk that was begun, and wait until the socket takes more."""
        if self._direct:
            await self._link.wait_writable()
        else:
            await super().wait_writable()

    async def send(self, told: Sequence[Told]) -> None:
        """Write the chunks in one gathered call; with several groups, the line before each is a chunk of its own."""
        if not self._direct:
            await super().send(told)
            return
        frames: list[bytes] = []
        for head, form, each in self._events(told):
            if head:
                frames.append(chunk(head))
            frames.append(form.frame(each))
        await self._link.send_frames(frames)

    async def send_data(self, data: str | bytes) -> None:
        """Write a chunk for this client alone."""
        if not self._direct:
            await super().send_data(data)
            return
        await self._link.wait_writable()
        await self._link.send_frames([chunk(_own_event(data))])


def _body(data: bytes, *, more: bool = True) -> Event:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _own_event(data: str | bytes) -> bytes:
    return data_event(data.encode()) if isinstance(data, str) else data_event(data, binary=True)
