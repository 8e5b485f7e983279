"""Looking at who is in a group: `GET /groups/<group>/members` for whoever may publish, `/members/<group>` for clients.

Both answer the same; clients are those whom `/sse` would let listen.
"""

from __future__ import annotations

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.presence import Members
from triocast.core.wire.json import member_fields
from triocast.event_request import cors_headers
from triocast.extension import Triocast
from triocast.group_handle import MAX_MEMBERS
from triocast.lasting import with_headers
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import guard
from triocast.web.names import GROUP, know_group_names
from triocast.web.paging import asked_limit
from triocast.web.publish import fresh_json

PAGE = 100


def member_routes(push: Triocast, name: str = "triocast_members") -> Blueprint:
    """Return a blueprint that shows who is in the groups of `push` to whoever may publish."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)
    guard(blueprint, push.settings)

    @blueprint.get(f"/groups/{GROUP}/members")
    async def members(group: str) -> Response:
        return await _page(push, group)

    return blueprint


def company_routes(push: Triocast, name: str = "triocast_company") -> Blueprint:
    """Return a blueprint that shows clients who else is in a group that they may listen to."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    @blueprint.before_request
    async def check() -> None:
        push.reception.check_origin(request.scope)

    @blueprint.after_request
    async def let_pages_read(response: Response) -> Response:
        return with_headers(response, cors_headers(request.scope, push.settings.allowed_origins))

    @blueprint.get(f"/members/{GROUP}")
    async def members(group: str) -> Response:
        return await _page(push, group)

    return blueprint


async def _page(push: Triocast, group: str) -> Response:
    asked = request.query_string
    limit = asked_limit(asked, PAGE, MAX_MEMBERS)
    return fresh_json(_shown(group, await push.hub.members(group, _after(asked), limit)))


def _shown(group: str, page: Members) -> dict[str, object]:
    members = [member_fields(member) for member in page.members]
    return {"group": group, "count": page.count, "users": page.users, "members": members, "next": page.next}


def _after(query_string: bytes) -> str | None:
    asked = query.texts(query_string, "after")
    if len(asked) > 1:
        raise BadRequest("after is the connection that the page follows (the last page's 'next'), given once")
    return asked[0] if asked else None
