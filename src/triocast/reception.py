"""Takes clients in: the places for handshakes under way, the Origin rule, and which way a client is written to.

It knows ASGI and the link's handle, and no framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import trio

from triocast import link
from triocast.connection import Connection, open_connection
from triocast.core.access import allowed_origin, header_values
from triocast.core.listening import Listening
from triocast.core.recovery import wish_of, wishes_of
from triocast.core.wire import FORMATS, Format
from triocast.errors import ForeignOrigin
from triocast.event_request import check_count, last_event_id
from triocast.hub import Hub
from triocast.transport import Transport
from triocast.transports.asgi import AsgiTransport, Receive, Send, Websocket
from triocast.transports.direct import DirectTransport
from triocast.transports.events import Call, DirectEvents, PortableEvents
from triocast.transports.poll import Polling, PollTransport
from triocast.transports.portable import PortableTransport

Scope = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A WebSocket that has not been answered: its ASGI scope and callables, and what accepts and closes it."""

    scope: Scope
    receive: Receive
    send: Send
    websocket: Websocket


class Reception:
    """Where the clients of one hub come in: by WebSocket, for server-sent events, or to poll."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._handshakes = trio.Semaphore(hub.settings.max_handshakes)
        self._watching = False

    def begin(self) -> None:
        """The hub starts: of this start, no server has begun to stop."""
        self._watching = False

    async def place(self) -> Place:
        """Wait for one of the `max_handshakes` places; whoever has it releases it once the client is answered."""
        await self._handshakes.acquire()
        return Place(self._handshakes)

    def connection(
        self,
        arrival: Arrival,
        listening: Listening,
    ) -> AbstractAsyncContextManager[Connection]:
        """Return what accepts the client and runs its connection around a block, as `Triocast.connect` says.

        Raises `ForeignOrigin`; entering the block raises what `open_connection` does. The client is not answered then.
        """
        self.check_origin(arrival.scope)
        return self._open(self._transport(arrival, FORMATS[listening.format]), listening)

    def events(self, call: Call, listening: Listening) -> AbstractAsyncContextManager[Connection]:
        """Return what answers a request for events and runs its client's connection around a block.

        A client that comes back and says so by Last-Event-ID goes on there, whatever else it asks for: an EventSource
        repeats its address. Raises `ForeignOrigin`, `TooManyGroups` and `InvalidPosition`; entering the block raises
        what `open_connection` does. The request is not answered then.
        """
        self.check_origin(call.scope)
        check_count(listening.groups, self._hub.settings)
        known = last_event_id(call.scope, listening.groups)
        if known is not None:
            listening = replace(listening, since=known, last=None)
        return self._open(self._event_transport(call, listening), listening)

    def _open(self, transport: Transport, listening: Listening) -> AbstractAsyncContextManager[Connection]:
        wishes = wishes_of(listening.groups, listening.since, listening.last)
        return open_connection(
            self._hub,
            transport,
            listening.groups,
            wishes,
            strict=listening.strict,
            presence=listening.presence,
            identity=listening.identity,
        )

    async def poll(self, call: Call, polling: Polling, begun: Callable[[], None]) -> None:
        """Answer a request once its client can be told something, or its wait is over; `begun` is called once it waits.

        Raises `ForeignOrigin`, and what `open_connection` does; the request is not answered then.
        """
        self.check_origin(call.scope)
        transport = PollTransport(call, polling, self._hub.settings, self._handle_of(call.scope))
        wishes = {polling.group: wish_of(polling.since, polling.last)}
        async with open_connection(self._hub, transport, wishes, wishes, listed=False) as connection:
            begun()
            await transport.wait(lambda: connection.behind)
            connection.leave_groups()  # what it is told is settled: reading that slowly is no lag
            await transport.answer()

    def check_origin(self, scope: Mapping[str, Any]) -> None:
        """Raise `ForeignOrigin` for a request of a page that may not use us."""
        origins = header_values(scope["headers"], b"origin")
        host = next(iter(header_values(scope["headers"], b"host")), "") if origins else ""
        if not allowed_origin(origins, host, self._hub.settings.allowed_origins):
            raise ForeignOrigin(
                f"pages of {', '.join(origins)} may not connect here: add the origin to allowed_origins"
            )

    def _transport(self, arrival: Arrival, form: Format) -> AsgiTransport:
        handle = self._handle_of(arrival.scope)
        if handle is not None and handle.takes_frames:
            return DirectTransport(arrival.receive, arrival.websocket, form, handle)
        timeout = self._hub.settings.write_timeout
        return PortableTransport(arrival.receive, arrival.send, arrival.websocket, form, handle, timeout)

    def _event_transport(self, call: Call, listening: Listening) -> PortableEvents:
        handle = self._handle_of(call.scope)
        if handle is not None and handle.takes_frames and call.scope["http_version"] == "1.1":
            return DirectEvents(call, listening, self._hub.settings, handle)
        return PortableEvents(call, listening, self._hub.settings, handle)

    def _handle_of(self, scope: Scope) -> link.Handle | None:
        """Return the link's handle, if the server has one, having seen to it that we hear of the server's end."""
        handle: link.Handle | None = (scope.get("state") or {}).get(link.LINK_KEY)
        if handle is not None and not self._watching:
            self._hub.start_soon(self._drain_once, handle.wait_terminating)
            self._watching = True
        return handle

    async def _drain_once(self, server_ends: Callable[[], Awaitable[None]]) -> None:
        """Close clients with 1012 as soon as Hypercorn starts to end, instead of when it has lost its patience."""
        await server_ends()
        await self._hub.roster.drain()


class Place:
    """A held place that is given back once, however often it is released."""

    __slots__ = ("_places",)

    def __init__(self, places: trio.Semaphore) -> None:
        self._places: trio.Semaphore | None = places

    def release(self) -> None:
        """Give the place back; harmless twice."""
        if self._places is not None:
            self._places.release()
            self._places = None
