"""Publishing over HTTP: `POST /publish/<group>` with the message as the body, and by GET for trying things out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import trio
from quart import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, MethodNotAllowed

from triocast.core.access import deny_publish
from triocast.core.message import Draft
from triocast.core.names import check_group_name
from triocast.errors import UnsupportedKind
from triocast.extension import Triocast
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import caller, denied, lock
from triocast.web.names import GROUP, know_group_names
from triocast.web.payload import from_body, from_query

# Bytes of a body that are decoded and checked in a thread: a megabyte of escapes takes 0.2 seconds, in which the
# event loop would serve nobody.
LARGE = 64 * 1024


MAX_KEY = 255  # bytes; as long as a group's name may be


def publish_routes(push: Triocast, name: str = "triocast_publish") -> Blueprint:
    """Return a blueprint that publishes to the groups of `push` for whoever may: with the key, or on this machine."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    @blueprint.before_request
    async def guard() -> Response | None:
        if request.method == "OPTIONS":
            return None
        return denied(deny_publish(caller(), lock(push.settings)))

    @blueprint.route(f"/publish/{GROUP}", methods=["GET", "POST"])
    async def publish(group: str) -> Response:
        check_group_name(group)
        draft = await _draft()
        receipt = await push.hub.publish(group, replace(draft, key=_key(request.query_string)))
        return fresh_json(receipt)

    return blueprint


def fresh_json(value: object) -> Response:
    """Return a JSON answer that no cache keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), headers=headers, content_type="application/json")


def _key(query_string: bytes) -> str | None:
    asked = query.texts(query_string, "key")
    if len(asked) > 1 or (asked and not 1 <= len(asked[0].encode()) <= MAX_KEY):
        raise BadRequest(f"key names what the message supersedes: 1 to {MAX_KEY} bytes, given once")
    return asked[0] if asked else None


async def _draft() -> Draft:
    if request.method == "HEAD":  # Quart lets it in wherever GET is; nobody expects it to publish
        raise MethodNotAllowed(["GET", "POST", "OPTIONS"])
    if request.method == "GET":
        return from_query(request.query_string)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedKind("compressed bodies are not accepted: send it without Content-Encoding")
    content_type, body = request.headers.get("Content-Type", ""), await _body()
    if len(body) > LARGE:
        return await trio.to_thread.run_sync(from_body, content_type, body)
    return from_body(content_type, body)


async def _body() -> bytes:
    return await request.get_data(cache=False, as_text=False, parse_form_data=False)
