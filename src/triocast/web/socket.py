"""Subscribing over WebSocket: `/ws/<group>` and `/ws?group=a&group=b`, as payloads and nothing else or as JSON.

It reads what a client asks for; what the client is then given is its connection's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Protocol

from quart import Blueprint, websocket

from triocast.connection import Connection
from triocast.core.listening import Listening
from triocast.core.message import Draft, Position
from triocast.core.wire import FORMATS
from triocast.errors import POLICY, TOO_BIG, TOO_SLOW, MessageTooLarge, Overloaded
from triocast.extension import Triocast
from triocast.web import query
from triocast.web.asking import read_asked
from triocast.web.errors import answer_errors_with_json
from triocast.web.names import GROUP, know_group_names

NOWHERE: Mapping[str, Position] = MappingProxyType({})
PAYLOADS_ONLY = "bare payloads have no room for who is there: ask for format=json with presence=1"
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
        await serve(push, push.accept, None, websocket.query_string)

    @blueprint.websocket(f"/ws/{GROUP}")
    async def by_path(group: str) -> None:
        await serve(push, push.accept, group, websocket.query_string)

    return blueprint


class Connect(Protocol):
    """`Triocast.accept`, or the same below Quart."""

    def __call__(self, listening: Listening) -> AbstractAsyncContextManager[Connection]: ...


async def serve(push: Triocast, connect: Connect, group: str | None, query_string: bytes) -> None:
    """Serve the WebSocket at `/ws/<group>`, or at `/ws` if `group` is None; the one way, whatever dispatched it."""
    asked = read_asked(group, query.all_texts(query_string), push.settings)
    if not isinstance(asked, str) and asked.presence and not FORMATS[asked.format].greets:
        asked = PAYLOADS_ONLY
    if isinstance(asked, str):
        async with connect(Listening(())) as connection:
            await connection.close(POLICY.code, asked)
        return
    publishes = all(push.settings.for_group(group).client_publish for group in asked.groups)
    async with connect(asked) as connection:
        async for data in connection:
            if publishes:
                await _publish(push, connection, asked.groups, data)
            else:
                await connection.close(POLICY.code, NO_CLIENT_PUBLISH)


async def _publish(push: Triocast, connection: Connection, groups: Sequence[str], data: str | bytes) -> None:
    draft = Draft.of(data)
    try:
        for group in groups:
            await push.hub.post(group, draft)
    except MessageTooLarge as error:
        await connection.close(TOO_BIG.code, str(error))
    except Overloaded as error:
        await connection.close(TOO_SLOW.code, str(error))
