"""ASGI middleware: requests whose answers last, without Quart's tasks and objects, and with its routes' own answers.

What is served, and how it is asked for, those know that are built on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from quart import Response
from werkzeug.exceptions import BadRequest

from triocast.errors import TriocastError
from triocast.event_request import cors_headers
from triocast.extension import Triocast
from triocast.lasting import with_headers
from triocast.problems import answer
from triocast.reception import Reception
from triocast.settings import Settings
from triocast.transports.events import Call
from triocast.web.errors import http_error, our_error
from triocast.web.gate import App, Scope, Send, send_answer
from triocast.web.names import asked_group

METHODS = "GET, HEAD, OPTIONS"
PREFLIGHT = {
    "Access-Control-Allow-Methods": METHODS,
    # What an EventSource sends of itself, and readers that are built on fetch have to ask for.
    "Access-Control-Allow-Headers": "Last-Event-ID, Cache-Control",
}

Asked = TypeVar("Asked")


class ListeningFront(Generic[Asked]):
    """Serves `{path}` and `{path}/<group>` for the groups of `push`, in front of `app`."""

    def __init__(self, app: App, push: Triocast, path: str) -> None:
        self._app = app
        self._push = push
        self._path = path

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Serve the client until it is answered or gone, or pass the call on."""
        ours, group = asked_group(scope, self._path) if scope["type"] == "http" else (False, None)
        if not ours:
            await self._app(scope, receive, send)
            return
        cors = cors_headers(scope, self._push.settings.allowed_origins)
        other = await self._answer(Call(scope, receive, send, cors), group)
        if other is not None:
            await send_answer(scope, with_headers(other, cors), send)

    def read(self, group: str | None, query_string: bytes, settings: Settings) -> Asked:
        """Return what is asked for. Raises `TriocastError` and `BadRequest` for what can't be."""
        raise NotImplementedError

    async def serve(
        self, reception: Reception, call: Call, asked: Asked, begun: Callable[[], None]
    ) -> TriocastError | None:
        """Serve the client, calling `begun` once it is let in, or return why it is refused."""
        raise NotImplementedError

    async def _answer(self, call: Call, group: str | None) -> Response | None:
        """Serve the client, or return another answer."""
        method = call.scope["method"]
        if method == "OPTIONS":
            return Response(b"", 204, {"Allow": METHODS, **PREFLIGHT})
        if method not in ("GET", "HEAD"):
            return answer(405, "method_not_allowed", f"{method} is not allowed here: use {METHODS}", {"Allow": METHODS})
        try:
            asked = self.read(group, call.scope["query_string"], self._push.settings)
        except BadRequest as error:
            return await http_error(error)
        except TriocastError as error:
            return await our_error(error)
        place = await self._push.reception.place()
        try:
            refusal = await self.serve(self._push.reception, call, asked, place.release)
        finally:
            place.release()
        return None if refusal is None else await our_error(refusal)
