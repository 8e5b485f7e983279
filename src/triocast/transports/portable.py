"""The portable way: WebSocket frames through ASGI's `send`, on any ASGI server.

It never touches a socket.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import trio

from triocast.core.message import Message
from triocast.core.wire import Format, Told
from triocast.transports.asgi import AsgiTransport, Event, Handle, Receive, Send, Websocket, broken_by_errors


def send_event(data: str | bytes) -> Event:
    """Return the ASGI event that sends one frame."""
    if isinstance(data, str):
        return {"type": "websocket.send", "text": data, "bytes": None}
    return {"type": "websocket.send", "bytes": data, "text": None}


class PortableTransport(AsgiTransport):
    """One `send` a message. Where the server gives writes no deadline of their own, one that lasts longer than
    `write_timeout` breaks the transport."""

    name = "portable"

    def __init__(
        self, receive: Receive, send: Send, websocket: Websocket, form: Format, handle: Handle | None, timeout: float
    ) -> None:
        super().__init__(receive, websocket, form, handle)
        self._send = send
        self._event = _event_of(form)
        # A server that watches progress lets a slow client that takes bytes have its time.
        self._timeout = math.inf if handle is not None and handle.progress_watched else timeout

    async def send(self, told: Sequence[Told]) -> None:
        """Write what the format can say."""
        for each in told:
            event = each.encoded(self._event) if isinstance(each, Message) else self._event(each)
            if event is None:
                await trio.lowlevel.checkpoint()
            else:
                await self._write(event)

    async def send_data(self, data: str | bytes) -> None:
        """Write a payload for this client alone."""
        await self._write(send_event(data))

    async def _write(self, event: Event) -> None:
        with trio.move_on_after(self._timeout) as deadline, broken_by_errors():
            await self._send(event)
        if deadline.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError(f"no progress for {self._timeout} s")


@cache  # one encoder a format, so that all its clients share what it makes
def _event_of(form: Format) -> Callable[[Told], Event | None]:
    def encode(told: Told) -> Event | None:
        payload = form.payload(told)
        return None if payload is None else send_event(payload)

    return encode
