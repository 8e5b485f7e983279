"""Looking at groups over HTTP: `GET /groups`, a page at a time, and `GET /groups/<group>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.extension import Triocast
from triocast.group import GroupInfo
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import guard
from triocast.web.names import GROUP, know_group_names
from triocast.web.paging import asked_limit
from triocast.web.publish import fresh_json

PAGE = 100
MAX_PAGE = 1000  # about 150 KB of JSON


def group_routes(push: Triocast, name: str = "triocast_groups") -> Blueprint:
    """Return a blueprint that shows the groups of `push` to whoever may publish."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    guard(blueprint, push.settings)

    @blueprint.get("/groups")
    async def groups() -> Response:
        limit = asked_limit(request.query_string, PAGE, MAX_PAGE)
        found = await push.hub.page(_after(request.query_string), limit + 1)  # one more tells whether there is more
        page = found[:limit]
        return fresh_json(
            {"groups": [_shown(info) for info in page], "next": page[-1].group if len(found) > limit else None}
        )

    @blueprint.get(f"/groups/{GROUP}")
    async def one_group(group: str) -> Response:
        return fresh_json(_shown(await push.hub.info(group)))

    return blueprint


def _shown(info: GroupInfo) -> Mapping[str, object]:
    """Return a group as JSON has it: other processes only where the engine knows of them."""
    told = {field.name: getattr(info, field.name) for field in fields(info)}
    if info.processes is None:
        del told["processes"], told["approximate"]
    return told


def _after(query_string: bytes) -> str | None:
    asked = query.texts(query_string, "after")
    if len(asked) > 1:
        raise BadRequest("after is the name of the group that the page follows (the last page's 'next'), given once")
    return asked[0] if asked else None
