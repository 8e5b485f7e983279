"""What every way out over ASGI shares: the handshake, what the client sends, the close, the abort.

It never writes data; each way does that in its own manner.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import trio

from triocast.core.log import NO_LIMIT
from triocast.core.message import Position
from triocast.core.wire import Format, Told
from triocast.errors import Close
from triocast.meters import Eviction
from triocast.subscription import Outlet
from triocast.transport import Disconnected

POSITION = "Triocast-Position"
"""The header that says after which position the stream of each group begins."""

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Handle(Protocol):
    """What the server under a connection can do for us; `triocast.link.Handle` is one."""

    progress_watched: bool  # a write that makes no progress is ended by the server

    @property
    def deflates(self) -> bool:
        """Whether `send_frames` may be given compressed frames."""

    @property
    def outlet(self) -> Outlet | None:
        """The socket, for one write that does not wait; None where there is none."""

    @property
    def eviction(self) -> Eviction | None:
        """Why the server has reset the connection, if it was for the client's slowness."""

    @property
    def takes_frames(self) -> bool:
        """Whether `send_frames` works for this connection, once it is accepted."""

    async def wait_writable(self) -> None:
        """Wait until the client can take more."""

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Write whole frames, right after `wait_writable`. Raises `trio.BrokenResourceError` once a Close frame is out
        or the client is gone."""

    def abort(self) -> None:
        """Reset the connection now."""


class Websocket(Protocol):
    """What is needed of Quart's websocket: both keep Quart's own state right."""

    async def accept(self, headers: Mapping[str, str]) -> None:
        """Answer the handshake, with these headers in the answer."""

    async def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame."""


class AsgiTransport:
    """The part of a transport that does not depend on how data is written."""

    name = "asgi"
    outlet: Outlet | None = None
    limit = NO_LIMIT

    def __init__(self, receive: Receive, websocket: Websocket, form: Format, handle: Handle | None) -> None:
        self.format = form
        self._receive = receive
        self._websocket = websocket
        self._handle = handle

    async def open(self, positions: Sequence[Position]) -> None:
        """Answer the handshake, saying where the client's streams begin: payloads have no room for it."""
        await self._websocket.accept({POSITION: ", ".join(map(str, positions))} if positions else {})

    async def wait_writable(self) -> None:
        """Return at once: the write itself waits."""
        await trio.lowlevel.checkpoint()

    async def send(self, told: Sequence[Told]) -> None:
        """Write what the client is told, in order."""
        raise NotImplementedError

    async def send_data(self, data: str | bytes) -> None:
        """Write a payload for this client alone."""
        raise NotImplementedError

    async def receive(self) -> str | bytes:
        """Return the payload of the next frame; empty frames of both kinds included."""
        event = await self._receive()
        while event["type"] == "websocket.connect":  # Quart need not have read it before us
            event = await self._receive()
        if event["type"] == "websocket.disconnect":
            eviction = self._handle.eviction if self._handle is not None else None
            raise Disconnected(event.get("code") or 1005, event.get("reason") or "", eviction)
        text = event.get("text")
        data: str | bytes = text if text is not None else event["bytes"]
        return data

    async def close(self, close: Close) -> None:
        """Send a Close frame; a client that is gone already does not mind."""
        # RuntimeError: the handler closed Quart's websocket itself.
        with contextlib.suppress(trio.BrokenResourceError, RuntimeError), broken_by_errors():
            await self._websocket.close(close.code, close.reason)

    def abort(self) -> None:
        """Reset the connection, where the server can."""
        if self._handle is not None:
            self._handle.abort()


@contextlib.contextmanager
def broken_by_errors() -> Iterator[None]:
    """Translate what servers raise for a client that is gone: OSError by the ASGI specification."""
    try:
        yield
    except (OSError, trio.ClosedResourceError) as error:
        raise trio.BrokenResourceError("the client is gone") from error
