"""Publishing over HTTP: `POST /publish/<group>` with the message as the body, and by GET for trying things out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import trio
from quart import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from triocast.core.access import Denial, deny_publish
from triocast.core.message import Draft, Receipt
from triocast.core.names import check_group_name
from triocast.errors import UnsupportedKind
from triocast.extension import Triocast
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import caller, denied, lock
from triocast.web.names import GROUP, know_group_names
from triocast.web.options import asked_options, checked_options
from triocast.web.payload import FIELD, from_body, from_query

LONG_BODY = 64 * 1024  # bytes that are decoded in a thread: more would hold up the event loop


_BESIDE = {"GET": (FIELD,), "HEAD": (FIELD,)}
"""What is in the query of a request of that method beside options."""


class Denied(Exception):
    """Whoever asks may not publish; carries the answer's parts."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial)
        self.denial = denial


async def publish(push: Triocast, scope: Any, group: str, body: Callable[[], Awaitable[bytes]]) -> Receipt:
    """Publish what a request to `/publish/<group>` asks for; the one way, whatever dispatched it.

    `body` is called once, after all that can be refused without it. Raises `Denied`, `TriocastError` and
    `HTTPException`.
    """
    denial = deny_publish(caller(scope), lock(push.settings))
    if denial is not None:
        raise Denied(denial)
    check_group_name(group)
    options = checked_options(asked_options(scope["query_string"], *_BESIDE.get(scope["method"], ())))
    draft = await _draft(scope, body)
    if options:
        draft = replace(draft, **options)
    return await push.hub.publish(group, draft)


def shown(receipt: Receipt) -> dict[str, object]:
    """Return a receipt as JSON has it: `approximate` and `repeated` only where they are true."""
    told: dict[str, object] = {
        "group": receipt.group,
        "epoch": receipt.epoch,
        "offset": receipt.offset,
        "subscribers": receipt.subscribers,
        "behind": receipt.behind,
    }
    if receipt.approximate:
        told["approximate"] = True
    if receipt.repeated:
        told["repeated"] = True
    return told


def publish_routes(push: Triocast, name: str = "triocast_publish") -> Blueprint:
    """Return a blueprint that publishes to the groups of `push` for whoever may: with the key, or on this machine."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    @blueprint.errorhandler(Denied)
    async def deny(error: Denied) -> Response:
        return denied(error.denial)

    @blueprint.route(f"/publish/{GROUP}", methods=["GET", "POST"])
    async def publish_to(group: str) -> Response:
        return fresh_json(shown(await publish(push, request.scope, group, quarts_body)))

    return blueprint


def fresh_json(value: object) -> Response:
    """Return a JSON answer that no cache keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), headers=headers, content_type="application/json")


def plain_type(scope: Any) -> str:
    """Return the content type of a request. Raises `UnsupportedKind` if its body is compressed."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), value)  # of several, the first
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedKind("compressed bodies are not accepted: send it without Content-Encoding")
    return headers.get(b"content-type", b"").decode("latin1")


async def _draft(scope: Any, body: Callable[[], Awaitable[bytes]]) -> Draft:
    if scope["method"] == "HEAD":  # Quart lets it in wherever GET is; nobody expects it to publish
        raise MethodNotAllowed(["GET", "POST", "OPTIONS"])
    if scope["method"] == "GET":
        return from_query(scope["query_string"])
    content_type = plain_type(scope)
    data = await body()
    if len(data) > LONG_BODY:
        return await trio.to_thread.run_sync(from_body, content_type, data)
    return from_body(content_type, data)


async def quarts_body() -> bytes:
    """Return the body of the request that Quart has at hand."""
    return await request.get_data(cache=False, as_text=False, parse_form_data=False)
