"""Lets a handler take a WebSocket's ASGI callables over from Quart.

Quart's own queue loses empty binary frames, and in some versions has no bound; a handler that does not ask for the
door is served by Quart as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from quart import Quart
from quart_trio.asgi import TrioASGIWebsocketConnection

from triocast.reception import Reception

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

DOOR = "triocast.door"  # the scope's key


class Door:
    """The two callables of one WebSocket, passed to Quart until they are taken."""

    def __init__(self, receive: Receive, send: Send, answered: Callable[[], None]) -> None:
        self._receive = receive
        self._send = send
        self._answered = answered
        self._taken = False
        self._quarts_wait = trio.CancelScope()

    async def receive(self) -> Event:
        """What Quart's reader calls; once the door is taken it waits until Quart ends it with the handler."""
        if not self._taken:
            with trio.CancelScope() as self._quarts_wait:
                return await self._receive()
        await trio.sleep_forever()
        raise AssertionError  # pragma: no cover

    async def send(self, event: Event) -> None:
        """What Quart calls, and whoever took the door; the first event answers the handshake, whatever it is."""
        try:
            await self._send(event)
        finally:
            self._answered()

    def take(self) -> tuple[Receive, Send]:
        """Give the real callables to the caller; from here on Quart reads nothing.

        Raises `RuntimeError` when they were taken before: one connection, one `connect()`.
        """
        if self._taken:
            raise RuntimeError("this websocket is connected already: call connect() once")
        self._taken = True
        self._quarts_wait.cancel()
        return self._receive, self.send


def open_door(app: Quart, reception: Reception) -> None:
    """Give every WebSocket of `app` a door, and let it wait for its place at the reception."""
    base: type[TrioASGIWebsocketConnection] = app.asgi_websocket_class  # type: ignore[assignment]

    class WebsocketWithDoor(base):  # type: ignore[valid-type, misc]
        async def __call__(self, receive: Receive, send: Send) -> None:
            place = await reception.place()
            try:
                self.scope[DOOR] = door = Door(receive, send, place.release)
                await super().__call__(door.receive, door.send)
            finally:
                place.release()

    app.asgi_websocket_class = WebsocketWithDoor
