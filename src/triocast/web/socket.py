"""Subscribing over WebSocket: `/ws/<group>` and `/ws?group=a&group=b`, as payloads and nothing else or as JSON.

It reads what a client asks for; what the client is then given is its connection's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, cast

from quart import Blueprint, websocket

from triocast.connection import Connection
from triocast.core.message import Draft
from triocast.core.names import check_group_name
from triocast.core.wire import FORMATS, FormatName
from triocast.errors import POLICY, TOO_BIG, TOO_SLOW, Close, InvalidGroupName, MessageTooLarge, Overloaded
from triocast.extension import Triocast
from triocast.settings import Settings
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.names import GROUP, know_group_names

# As long as a close frame's reason may be; `core.names.RULE` is not.
BAD_NAME = "not a group name: it has 1 to 255 printable ASCII characters without space / * & { }"
NO_GROUP = "no group: connect to /ws/GROUP, or to /ws?group=A&group=B for several"
BAD_FORMAT = f"no such format: it is one of {', '.join(FORMATS)}, given once"
BAD_STRICT = "strict is 1 or 0, given once"
NO_CLIENT_PUBLISH = "this group takes no messages from clients: publish over HTTP (client_publish is off)"


def socket_routes(push: Triocast, name: str = "triocast_ws") -> Blueprint:
    """Return a blueprint whose WebSockets are members of the groups that their address names.

    A client that asks for groups it can't have is accepted and closed with 1008: a refused handshake would show a
    browser's page no reason. What a client sends is published to each of its groups if all of them have
    `client_publish`; otherwise the client is closed with 1008.
    """
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)
    know_group_names(blueprint)

    @blueprint.websocket("/ws")
    async def by_query() -> None:
        await serve(push, push.connect, None, websocket.query_string)

    @blueprint.websocket(f"/ws/{GROUP}")
    async def by_path(group: str) -> None:
        await serve(push, push.connect, group, websocket.query_string)

    return blueprint


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client asks for."""

    groups: Sequence[str]
    format: FormatName
    strict: bool


class Connect(Protocol):
    """`Triocast.connect`, or the same below Quart."""

    def __call__(
        self,
        *groups: str,
        format: FormatName = "raw",  # noqa: A002 - as `Triocast.connect` calls it
        strict: bool = False,
    ) -> AbstractAsyncContextManager[Connection]: ...


async def serve(push: Triocast, connect: Connect, group: str | None, query_string: bytes) -> None:
    """Serve the WebSocket at `/ws/<group>`, or at `/ws` if `group` is None; the one way, whatever dispatched it."""
    asked = query.texts(query_string, "group") if group is None else [group] if group else []
    wish = _read_wish(asked, query_string, push.settings)
    if isinstance(wish, Close):
        async with connect() as connection:
            await connection.close(wish.code, wish.reason)
        return
    publishes = all(push.settings.for_group(group).client_publish for group in wish.groups)
    async with connect(*wish.groups, format=wish.format, strict=wish.strict) as connection:
        async for data in connection:
            if publishes:
                await _publish(push, connection, wish.groups, data)
            else:
                await connection.close(POLICY.code, NO_CLIENT_PUBLISH)


def _read_wish(asked: Sequence[str], query_string: bytes, settings: Settings) -> _Wish | Close:
    """Return what a client asks for, or why it can't have that."""
    groups = list(dict.fromkeys(asked))
    formats = query.texts(query_string, "format") or ["raw"]
    stricts = query.texts(query_string, "strict") or ["0"]
    if len(formats) > 1 or formats[0] not in FORMATS:
        return POLICY.because(BAD_FORMAT)
    if len(stricts) > 1 or stricts[0] not in ("0", "1"):
        return POLICY.because(BAD_STRICT)
    return _refuse(groups, settings) or _Wish(groups, cast("FormatName", formats[0]), stricts[0] == "1")


def _refuse(groups: Sequence[str], settings: Settings) -> Close | None:
    """Return why a client can't be in these groups."""
    limit = settings.max_groups_per_connection
    if not groups:
        return POLICY.because(NO_GROUP)
    if len(groups) > limit:
        return POLICY.because(f"too many groups: {limit} a connection (max_groups_per_connection)")
    try:
        for group in groups:
            check_group_name(group)
    except InvalidGroupName:
        return POLICY.because(BAD_NAME)
    return None


async def _publish(push: Triocast, connection: Connection, groups: Sequence[str], data: str | bytes) -> None:
    draft = Draft.of(data)
    try:
        for group in groups:
            await push.hub.post(group, draft)
    except MessageTooLarge as error:
        await connection.close(TOO_BIG.code, str(error))
    except Overloaded as error:
        await connection.close(TOO_SLOW.code, str(error))
