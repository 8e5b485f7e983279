"""The portable way: raw WebSocket frames through ASGI's `send`, on any ASGI server.

It never touches a socket; `door` hands it the ASGI callables that Quart would otherwise keep to itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import trio

from triocast.connection import Disconnected
from triocast.core.log import Entry
from triocast.core.message import Gap, Message
from triocast.core.wire import raw
from triocast.errors import Close

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Handle(Protocol):
    """What the server under a connection can do for us; see `triocast.link.Handle`."""

    progress_watched: bool

    def abort(self) -> None:
        """Reset the connection now."""


class Websocket(Protocol):
    """What is needed of Quart's websocket: both keep Quart's own state right."""

    async def accept(self) -> None:
        """Answer the handshake."""

    async def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame."""


def text_or_bytes(data: str | bytes) -> Event:
    """Return the ASGI event that sends one frame."""
    if isinstance(data, str):
        return {"type": "websocket.send", "text": data, "bytes": None}
    return {"type": "websocket.send", "bytes": data, "text": None}


def _event(message: Message) -> Event:
    return text_or_bytes(raw.payload(message))


class PortableTransport:
    """Payloads and nothing else; a gap is not shown, the group counts it.

    Where the server gives writes no deadline of their own, one that lasts longer than `write_timeout` breaks the
    transport.
    """

    name = "portable"

    def __init__(
        self,
        receive: Receive,
        send: Send,
        websocket: Websocket,
        *,
        handle: Handle | None,
        write_timeout: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._websocket = websocket
        self._handle = handle
        # A server that watches progress lets a slow client that takes bytes have its time.
        self._write_timeout = math.inf if handle is not None and handle.progress_watched else write_timeout

    async def open(self) -> None:
        """Answer the handshake."""
        await self._websocket.accept()

    async def send(self, entry: Entry) -> None:
        """Write a message's payload."""
        if isinstance(entry, Gap):
            await trio.lowlevel.checkpoint()
        else:
            await self._write(entry.encoded(_event))

    async def send_data(self, data: str | bytes) -> None:
        """Write a payload for this client alone."""
        await self._write(text_or_bytes(data))

    async def receive(self) -> str | bytes:
        """Return the payload of the next frame; empty frames of both kinds included."""
        event = await self._receive()
        while event["type"] == "websocket.connect":  # Quart need not have read it before us
            event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise Disconnected(event.get("code") or 1005, event.get("reason") or "")
        text = event.get("text")
        data: str | bytes = text if text is not None else event["bytes"]
        return data

    async def close(self, close: Close) -> None:
        """Send a Close frame; a client that is gone already does not mind."""
        # RuntimeError: the handler closed Quart's websocket itself.
        with contextlib.suppress(trio.BrokenResourceError, RuntimeError), _broken_by_errors():
            await self._websocket.close(close.code, close.reason)

    def abort(self) -> None:
        """Reset the connection, where the server can."""
        if self._handle is not None:
            self._handle.abort()

    async def _write(self, event: Event) -> None:
        with trio.move_on_after(self._write_timeout) as deadline, _broken_by_errors():
            await self._send(event)
        if deadline.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError(f"no progress for {self._write_timeout} s")


@contextlib.contextmanager
def _broken_by_errors() -> Iterator[None]:
    """Translate what servers raise for a client that is gone: OSError by the ASGI specification."""
    try:
        yield
    except (OSError, trio.ClosedResourceError) as error:
        raise trio.BrokenResourceError("the client is gone") from error
