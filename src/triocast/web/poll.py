"""Long-polling: `GET /poll/<group>?since=EPOCH:OFFSET&wait=30&limit=100`, by Quart and in front of it.

It reads what a client asks for; what the client is then answered is its connection's affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.names import check_group_name
from triocast.errors import TriocastError
from triocast.extension import Triocast
from triocast.poll_response import PollResponse, serve_poll
from triocast.reception import Reception
from triocast.settings import Settings
from triocast.transports.events import Call
from triocast.transports.poll import LIMIT, MAX_LIMIT, MAX_WAIT, WAIT, Polling
from triocast.web import query
from triocast.web.asking import read_asked
from triocast.web.errors import answer_errors_with_json
from triocast.web.gate import App
from triocast.web.listening_front import ListeningFront
from triocast.web.names import GROUP, know_group_names
from triocast.web.paging import asked_limit

NO_GROUP = "no group: ask for /poll/GROUP; a poll is of one"
BAD_WAIT = f"wait is how many seconds to wait for a message, 0 to {MAX_WAIT:g} ({WAIT:g} if left out), given once"
SECONDS = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")


def poll_routes(push: Triocast, name: str = "triocast_poll") -> Blueprint:
    """Return a blueprint that answers with what follows a position in the group that the address names."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    def poll(group: str | None) -> PollResponse:
        return PollResponse(push.reception, read_polling(group, request.query_string, push.settings))

    @blueprint.get("/poll")
    async def of_nothing() -> Response:
        return poll(None)

    @blueprint.get(f"/poll/{GROUP}")
    async def by_path(group: str) -> Response:
        return poll(group)

    return blueprint


class PollFront(ListeningFront[Polling]):
    """ASGI middleware: serves `{path}/<group>` in front of `app`, without Quart's tasks and objects."""

    def __init__(self, app: App, push: Triocast, path: str = "/poll") -> None:
        super().__init__(app, push, path)

    def read(self, group: str | None, query_string: bytes, settings: Settings) -> Polling:
        """Return what is asked for, as `read_polling` does."""
        return read_polling(group, query_string, settings)

    async def serve(
        self, reception: Reception, call: Call, asked: Polling, begun: Callable[[], None]
    ) -> TriocastError | None:
        """Answer the client."""
        return await serve_poll(reception, call, asked, begun)


def read_polling(group: str | None, query_string: bytes, settings: Settings) -> Polling:
    """Return what is asked for; `group` is the path's, None if it names none.

    Raises `InvalidGroupName`, and `BadRequest` for what else is wrong.
    """
    if not group:
        raise BadRequest(NO_GROUP)
    check_group_name(group)
    said = query.all_texts(query_string)
    asked = read_asked(group, said, settings)
    if isinstance(asked, str):
        raise BadRequest(asked)
    limit = asked_limit(query_string, LIMIT, MAX_LIMIT)
    return Polling(group, asked.since.get(group), asked.last, _wait(said.get("wait", [str(WAIT)])), limit)


def _wait(texts: Sequence[str]) -> float:
    if len(texts) > 1 or not SECONDS.fullmatch(texts[0]) or float(texts[0]) > MAX_WAIT:
        raise BadRequest(BAD_WAIT)
    return float(texts[0])
