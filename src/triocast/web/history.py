"""What a group's history keeps, over HTTP: `GET /groups/<group>/messages`, a page at a time.

Whoever may publish may read it; it makes nobody a member.
"""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.message import Message, Position
from triocast.core.positions import parse_since
from triocast.core.wire.json import gap_fields, payload
from triocast.extension import Triocast
from triocast.history import MAX_PAGE, PAGE, History
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import guard
from triocast.web.names import GROUP, know_group_names
from triocast.web.paging import asked_limit
from triocast.web.publish import fresh_json


def history_routes(push: Triocast, name: str = "triocast_history") -> Blueprint:
    """Return a blueprint that shows what the groups of `push` keep to whoever may publish."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    guard(blueprint, push.settings)

    @blueprint.get(f"/groups/{GROUP}/messages")
    async def messages(group: str) -> Response:
        asked = request.query_string
        limit = asked_limit(asked, PAGE, MAX_PAGE)
        return fresh_json(_said(await push.hub.history(group, _since(asked), limit, reverse=_reverse(asked))))

    return blueprint


def _said(history: History) -> dict[str, object]:
    position = history.position
    said: dict[str, object] = {"group": history.group, "epoch": position.epoch, "offset": position.offset}
    if history.gap is not None:
        said["gap"] = gap_fields(history.gap)
    said["messages"] = [_message(message) for message in history.messages]
    said["next"] = None if history.next is None else str(history.next)
    return said


def _message(message: Message) -> msgspec.Raw:
    """Return what a client with `format=json` is given for the message, and its key."""
    told = payload(message)
    if message.key is not None:
        told = f'{told[:-1]},"key":{msgspec.json.encode(message.key).decode()}}}'
    return msgspec.Raw(told)


def _since(query_string: bytes) -> Position | None:
    asked = query.texts(query_string, "since")
    if len(asked) > 1:
        raise BadRequest("since is the position that the page follows, or with reverse comes before, given once")
    return parse_since(asked[0]) if asked else None


def _reverse(query_string: bytes) -> bool:
    asked = query.texts(query_string, "reverse") or ["0"]
    if len(asked) > 1 or asked[0] not in ("0", "1"):
        raise BadRequest("reverse is 1 for the newest first, or 0, given once")
    return asked[0] == "1"
