"""Listening by server-sent events: `GET /sse/<group>` and `/sse?group=a&group=b`, by Quart and in front of it.

It reads what a client asks for; what the client is then given is its connection's affair.
"""

from __future__ import annotations

from collections.abc import Callable

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.listening import Listening
from triocast.core.names import check_group_name
from triocast.errors import PresenceOff, TriocastError
from triocast.event_request import check_count
from triocast.event_response import EventsResponse, serve_events
from triocast.extension import Triocast
from triocast.reception import Reception
from triocast.settings import Settings
from triocast.transports.events import Call
from triocast.web import query
from triocast.web.asking import NO_PRESENCE, read_asked
from triocast.web.errors import answer_errors_with_json
from triocast.web.gate import App
from triocast.web.listening_front import ListeningFront
from triocast.web.names import GROUP, know_group_names

NO_GROUP = "no group: ask for /sse/GROUP, or for /sse?group=A&group=B for several"


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


class EventsFront(ListeningFront[Listening]):
    """ASGI middleware: serves `{path}` and `{path}/<group>` in front of `app`, without Quart's tasks and objects."""

    def __init__(self, app: App, push: Triocast, path: str = "/sse") -> None:
        super().__init__(app, push, path)

    def read(self, group: str | None, query_string: bytes, settings: Settings) -> Listening:
        """Return what is asked for, as `read_listening` does."""
        return read_listening(group, query_string, settings)

    async def serve(
        self, reception: Reception, call: Call, asked: Listening, begun: Callable[[], None]
    ) -> TriocastError | None:
        """Serve the client until it is gone."""
        return await serve_events(reception, call, asked, begun)


def read_listening(group: str | None, query_string: bytes, settings: Settings) -> Listening:
    """Return what is asked for; `group` is the path's, None if the query names the groups.

    Raises `TooManyGroups`, `InvalidGroupName`, `PresenceOff`, and `BadRequest` for what else is wrong.
    """
    said = query.all_texts(query_string)
    groups = said.get("group", []) if group is None else [group]
    if not any(groups):
        raise BadRequest(NO_GROUP)
    check_count(list(dict.fromkeys(groups)), settings)
    for name in groups:
        check_group_name(name)
    asked = read_asked(group, said, settings)
    if asked is NO_PRESENCE:
        raise PresenceOff(next(name for name in groups if not settings.for_group(name).presence))
    if isinstance(asked, str):
        raise BadRequest(asked)
    return asked
