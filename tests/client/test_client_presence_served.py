"""Listeners of the real server hear who comes and goes, by both transports, and keep the list of who is there."""

from __future__ import annotations

import pytest
import trio
from tests.served import PATIENCE, Served, served

from triocast.client import Departure, Listener, Members, Presence, PresenceReset, Received, open_listener
from triocast.client.way import TransportName


def names(members: Members) -> list[str]:
    return sorted(member.info["name"] for member in members.values() if member.claimed)


async def keep(messages: Listener, members: Members, server: Served, until: set[str]) -> list[object]:
    """Keep the list until these are on it; return what came meanwhile, but for those who joined."""

    async def get(path: str) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        answer = await server.request(head.encode())
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return answer.split(b"\r\n\r\n", 1)[1]

    came: list[object] = []
    while not members.complete or set(names(members)) != until:
        item = await anext(messages)
        members.apply(item)
        if isinstance(item, PresenceReset):
            assert await members.ask(get)
        came += item.left if isinstance(item, Presence) else [item]
    return came


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_list_is_kept_of_who_is_there(transport: TransportName) -> None:
    members = Members("chat")
    with trio.fail_after(PATIENCE):
        async with served() as server:
            url = f"http://127.0.0.1:{server.port}"
            ann, bob = {"name": "Ann & co"}, {"name": "Bob"}
            async with open_listener(url, ["chat"], transport=transport, presence=True, info=ann) as messages:
                assert await keep(messages, members, server, {"Ann & co"}) == [PresenceReset("chat")]
                async with open_listener(url, ["chat"], format="raw", info=bob):
                    assert await keep(messages, members, server, {"Ann & co", "Bob"}) == []
                    (gone,) = (client for client, member in members.items() if member.info == bob)
                    receipt = await server.push.group("chat").send("hello")
                assert await keep(messages, members, server, {"Ann & co"}) == [
                    Received("hello", "chat", 1),
                    Departure(gone, "left"),
                ]
                assert messages.positions == {"chat": f"{receipt.epoch}:1"}
                assert len(members) == 1
