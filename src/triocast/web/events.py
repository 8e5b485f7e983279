"""Listening by server-sent events: `GET /sse/<group>` and `/sse?group=a&group=b`, by Quart and in front of it.

It reads what a client asks for; what the client is then given is its connection's affair.
"""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.listening import Listening
from triocast.core.names import check_group_name
from triocast.errors import PresenceOff, TriocastError
from triocast.event_request import check_count, cors_headers
from triocast.event_response import EventsResponse, serve_events, with_headers
from triocast.extension import Triocast
from triocast.problems import answer
from triocast.settings import Settings
from triocast.transports.events import Call
from triocast.web import query
from triocast.web.asking import NO_PRESENCE, read_asked
from triocast.web.errors import answer_errors_with_json, http_error, our_error
from triocast.web.gate import App, Scope, Send, send_answer
from triocast.web.names import GROUP, asked_group, know_group_names

METHODS = "GET, HEAD, OPTIONS"
NO_GROUP = "no group: ask for /sse/GROUP, or for /sse?group=A&group=B for several"
PREFLIGHT = {
    "Access-Control-Allow-Methods": METHODS,
    # What an EventSource sends of itself, and readers that are built on fetch have to ask for.
    "Access-Control-Allow-Headers": "Last-Event-ID, Cache-Control",
}


def events_routes(push: Triocast, name: str = "triocast_sse") -> Blueprint:
    """Return a blueprint whose answers are streams of the groups that their address names."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    def listen(group: str | None) -> EventsResponse:
        return EventsResponse(push.reception, read_listening(group, request.query_string, push.settings))

    @blueprint.get("/sse")
    async def by_query() -> Response:
        return listen(None)

    @blueprint.get(f"/sse/{GROUP}")
    async def by_path(group: str) -> Response:
        return listen(group)

    return blueprint


class EventsFront:
    """ASGI middleware: serves `{path}` and `{path}/<group>` in front of `app`, without Quart's tasks and objects."""

    def __init__(self, app: App, push: Triocast, path: str = "/sse") -> None:
        self._app = app
        self._push = push
        self._path = path

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Serve the client until it is gone, or pass the call on."""
        ours, group = asked_group(scope, self._path) if scope["type"] == "http" else (False, None)
        if not ours:
            await self._app(scope, receive, send)
            return
        cors = cors_headers(scope, self._push.settings.allowed_origins)
        other = await self._serve(Call(scope, receive, send, cors), group)
        if other is not None:
            await send_answer(scope, with_headers(other, cors), send)

    async def _serve(self, call: Call, group: str | None) -> Response | None:
        """Serve the client, or return another answer."""
        method = call.scope["method"]
        if method == "OPTIONS":
            return Response(b"", 204, {"Allow": METHODS, **PREFLIGHT})
        if method not in ("GET", "HEAD"):
            return answer(405, "method_not_allowed", f"{method} is not allowed here: use {METHODS}", {"Allow": METHODS})
        try:
            listening = read_listening(group, call.scope["query_string"], self._push.settings)
        except BadRequest as error:
            return await http_error(error)
        except TriocastError as error:
            return await our_error(error)
        place = await self._push.reception.place()
        try:
            refusal = await serve_events(self._push.reception, call, listening, place.release)
        finally:
            place.release()
        return None if refusal is None else await our_error(refusal)


def read_listening(group: str | None, query_string: bytes, settings: Settings) -> Listening:
    """Return what is asked for; `group` is the path's, None if the query names the groups.

    Raises `TooManyGroups`, `InvalidGroupName`, `PresenceOff`, and `BadRequest` for what else is wrong.
    """
    groups = query.texts(query_string, "group") if group is None else [group]
    if not any(groups):
        raise BadRequest(NO_GROUP)
    check_count(list(dict.fromkeys(groups)), settings)
    for name in groups:
        check_group_name(name)
    asked = read_asked(group, query_string, settings)
    if asked is NO_PRESENCE:
        raise PresenceOff(next(name for name in groups if not settings.for_group(name).presence))
    if isinstance(asked, str):
        raise BadRequest(asked)
    return asked
