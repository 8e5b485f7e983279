"""Takes WebSockets in: the places for handshakes under way, the Origin rule, and which way a client is written to.

It knows ASGI and the link's handle, and no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import trio

from triocast import link
from triocast.connection import Connection, open_connection
from triocast.core.access import allowed_origin
from triocast.core.recovery import Wish
from triocast.core.wire import FORMATS, Format, FormatName
from triocast.errors import ForeignOrigin
from triocast.hub import Hub
from triocast.transports.asgi import AsgiTransport, Receive, Send, Websocket
from triocast.transports.direct import DirectTransport
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
    """Where the WebSockets of one hub come in."""

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
        groups: Sequence[str],
        wishes: Mapping[str, Wish | None],
        form: FormatName,
        *,
        strict: bool,
    ) -> AbstractAsyncContextManager[Connection]:
        """Return what accepts the client and runs its connection around a block, as `Triocast.connect` says.

        Raises `ForeignOrigin`; entering the block raises what `open_connection` does. The client is not answered then.
        """
        self._check_origin(arrival.scope)
        transport = self._transport(arrival, FORMATS[form])
        return open_connection(self._hub, transport, groups, wishes, strict=strict)

    def _check_origin(self, scope: Scope) -> None:
        origins = _values(scope, b"origin")
        if origins and not allowed_origin(
            origins, next(iter(_values(scope, b"host")), ""), self._hub.settings.allowed_origins
        ):
            raise ForeignOrigin(
                f"pages of {', '.join(origins)} may not connect here: add the origin to allowed_origins"
            )

    def _transport(self, arrival: Arrival, form: Format) -> AsgiTransport:
        handle: link.Handle | None = (arrival.scope.get("state") or {}).get(link.LINK_KEY)
        if handle is not None:
            self._drain_with(handle)
            if handle.takes_frames:
                return DirectTransport(arrival.receive, arrival.websocket, form, handle)
        timeout = self._hub.settings.write_timeout
        return PortableTransport(arrival.receive, arrival.send, arrival.websocket, form, handle, timeout)

    def _drain_with(self, handle: link.Handle) -> None:
        """Close clients with 1012 as soon as Hypercorn starts to end, instead of when it has lost its patience."""
        if not self._watching:
            self._hub.start_soon(self._drain_when_terminating, handle)
            self._watching = True

    async def _drain_when_terminating(self, handle: link.Handle) -> None:
        await handle.wait_terminating()
        await self._hub.drain()


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


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin1") for key, value in scope["headers"] if key.lower() == name]
