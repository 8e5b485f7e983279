"""Subscribing over WebSocket: `/ws/<group>` and `/ws?group=a&group=b`, frames being payloads and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Blueprint, websocket

from triocast.connection import Connection
from triocast.core.message import Draft
from triocast.core.names import check_group_name
from triocast.errors import POLICY, TOO_BIG, Close, InvalidGroupName, MessageTooLarge
from triocast.extension import Triocast
from triocast.settings import Settings
from triocast.web import query
from triocast.web.errors import answer_errors_with_json
from triocast.web.names import GROUP, know_group_names

# As long as a close frame's reason may be; `core.names.RULE` is not.
BAD_NAME = "not a group name: it has 1 to 255 printable ASCII characters without space / * & { }"
NO_GROUP = "no group: connect to /ws/GROUP, or to /ws?group=A&group=B for several"
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
        await _serve(push, query.texts(websocket.query_string, "group"))

    @blueprint.websocket(f"/ws/{GROUP}")
    async def by_path(group: str) -> None:
        await _serve(push, [group] if group else [])

    return blueprint


async def _serve(push: Triocast, asked: Sequence[str]) -> None:
    groups = list(dict.fromkeys(asked))
    refusal = _refuse(groups, push.settings)
    async with push.connect() as connection:
        if refusal is not None:
            await connection.close(refusal.code, refusal.reason)
            return
        for group in groups:
            await push.group(group).add(connection)
        async for data in connection:
            await _take(push, connection, groups, data)


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


async def _take(push: Triocast, connection: Connection, groups: Sequence[str], data: str | bytes) -> None:
    """Do with a client's frame what its groups say."""
    if not all(push.settings.for_group(group).client_publish for group in groups):
        await connection.close(POLICY.code, NO_CLIENT_PUBLISH)
        return
    draft = Draft.of(data)
    try:
        for group in groups:
            await push.hub.publish(group, draft)
    except MessageTooLarge as error:
        await connection.close(TOO_BIG.code, str(error))
