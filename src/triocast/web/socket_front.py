"""ASGI middleware: WebSockets without Quart, whose tasks and objects would be most of what a connection costs.

What a client may ask for and is given is the routes' own code; everything else is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from triocast.connection import Connection
from triocast.core.listening import Listening
from triocast.errors import TriocastError
from triocast.extension import Triocast
from triocast.reception import Arrival, Place
from triocast.web.errors import our_error
from triocast.web.gate import App, Scope, Send, send_answer
from triocast.web.names import asked_group
from triocast.web.socket import serve


class SocketFront:
    """Serves `{path}` and `{path}/<group>` for the groups of `push`, in front of `app`."""

    def __init__(self, app: App, push: Triocast, path: str = "/ws") -> None:
        self._app = app
        self._push = push
        self._path = path

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Serve the client until it is gone, or pass the call on."""
        ours, group = asked_group(scope, self._path) if scope["type"] == "websocket" else (False, None)
        if not ours:
            await self._app(scope, receive, send)
            return
        caller = _Caller(self._push, scope, receive, send, await self._push.reception.place())
        try:
            await serve(self._push, caller.connect, group, scope["query_string"])
        except TriocastError as error:
            if caller.answered:
                raise
            await send_answer(scope, await our_error(error), send)
        finally:
            caller.place.release()


class _Caller:
    """A client below Quart, and the answer to its handshake."""

    __slots__ = ("_push", "_receive", "_scope", "_send", "answered", "place")

    def __init__(self, push: Triocast, scope: Scope, receive: Any, send: Send, place: Place) -> None:
        self.place = place
        self.answered = False
        self._push = push
        self._scope = scope
        self._receive = receive
        self._send = send

    def connect(self, listening: Listening) -> AbstractAsyncContextManager[Connection]:
        """Do what `Triocast.accept` does, but raise the error for which the client is refused."""
        arrival = Arrival(self._scope, self._receive, self._send, self)
        return self._push.reception.connection(arrival, listening)

    async def accept(self, headers: Mapping[str, str]) -> None:
        self.answered = True
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        try:
            await self._send({"type": "websocket.accept", "subprotocol": None, "headers": raw})
        finally:
            self.place.release()

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
