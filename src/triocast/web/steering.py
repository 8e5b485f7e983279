"""Parting with clients over HTTP: their connections are closed, or they are taken out of a group."""

from __future__ import annotations

from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from triocast.core.identity import check_user
from triocast.core.names import check_group_name
from triocast.core.steering import RULE, Order, Outcome, close_of
from triocast.errors import Close
from triocast.extension import Triocast
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import guard
from triocast.web.names import GROUP, REST, know_group_names
from triocast.web.publish import fresh_json


def steering_routes(push: Triocast, name: str = "triocast_steering") -> Blueprint:
    """Return a blueprint by which whoever may publish can part with clients of `push`, in whatever process they are.

    What is gone already is no error: whoever asks again because an answer was lost has what it wanted.
    """
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    guard(blueprint, push.settings)

    @blueprint.delete(f"/connections/{REST.format('client')}")
    async def close_connection(client: str) -> Response:
        return _answer("closed", await push.hub.order(Order(_close(), client=client)))

    @blueprint.delete(f"/users/{REST.format('user')}/connections")
    async def close_user(user: str) -> Response:
        return _answer("closed", await push.hub.order(Order(_close(), user=check_user(user))))

    @blueprint.delete(f"/groups/{GROUP}/members/{REST.format('client')}")
    async def remove_member(group: str, client: str) -> Response:
        order = Order(_close(), client=client, group=check_group_name(group))
        return _answer("removed", await push.hub.order(order))

    return blueprint


def _answer(what: str, outcome: Outcome) -> Response:
    told: dict[str, object] = {what: outcome.count}
    return fresh_json(told | ({"approximate": True} if outcome.approximate else {}))


def _close() -> Close:
    """Return what the query says; raises `InvalidClose`, and `BadRequest` for what is given twice."""
    asked = query.all_texts(request.query_string)
    codes, reasons = asked.get("code", []), asked.get("reason", [])
    if len(codes) > 1 or len(reasons) > 1:
        raise BadRequest("code and reason are given once at most")
    reason = reasons[0] if reasons else None
    return close_of(reason=reason) if not codes else close_of(_number(codes[0]), reason)


def _number(text: str) -> int:
    if len(text) != 4 or not (text.isascii() and text.isdigit()):
        raise BadRequest(RULE)
    return int(text)
