"""Parting with clients over HTTP: who may, what is understood, and what is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from triocast import Connection, Settings, Triocast
from triocast.testing import Closed, World, simulate
from triocast.web import create_app, routes

ODD_IDS = ("x" * 65, "a/b", "a%2Fb", "..", "%2E%2E", "*", "a b", "\n", "é", "%00", "/", "a/connections/b")


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        yield world


def connections(world: World) -> list[Connection]:
    hub = world.app.extensions["triocast"].hub
    return [each for each in hub.roster if isinstance(each, Connection)]


async def delete(world: World, path: str, **headers: str) -> tuple[int, Any]:
    response = await world.http.delete(path, headers=headers)
    return response.status_code, await response.get_json()


async def test_a_connection_is_closed_and_closing_it_again_is_no_error() -> None:
    async with served() as world:
        client = await world.connect("/ws/chat")
        (one,) = connections(world)
        assert await delete(world, f"/connections/{one.id}") == (200, {"closed": 1})
        assert await client.wait_closed() == Closed(3503, "disconnected by the server")
        assert await delete(world, f"/connections/{one.id}") == (200, {"closed": 0})


async def test_code_and_reason_are_what_the_client_is_told() -> None:
    async with served() as world:
        client = await world.connect("/ws/chat")
        (one,) = connections(world)
        reason = "raus, bitte: " + "é" * 55
        assert len(reason.encode()) == 123
        assert await delete(world, f"/connections/{one.id}?code=4001&reason={quote(reason)}") == (200, {"closed": 1})
        assert await client.wait_closed() == Closed(4001, reason)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("code=1006", "invalid_close"),
        ("code=1009", "invalid_close"),
        ("code=5000", "invalid_close"),
        ("code=0000", "invalid_close"),
        ("code=", "bad_request"),
        ("code=x", "bad_request"),
        ("code=-3503", "bad_request"),
        ("code=03503", "bad_request"),
        ("code=٣٥٠٣", "bad_request"),
        ("code=" + "9" * 5000, "bad_request"),
        ("code=4001&code=4001", "bad_request"),
        ("reason=a&reason=b", "bad_request"),
        ("reason=" + "x" * 124, "invalid_close"),
        ("reason=" + quote("é" * 62), "invalid_close"),
        ("reason=" + "%FF" * 42, "invalid_close"),
    ],
)
async def test_what_can_not_be_said_is_refused_and_nobody_closed(query: str, code: str) -> None:
    async with served() as world:
        await world.connect("/ws/chat?format=json")
        (one,) = connections(world)
        query = quote(query, safe="=&%")
        for path in (f"/connections/{one.id}", "/users/ann/connections", f"/groups/chat/members/{one.id}"):
            status, body = await delete(world, f"{path}?{query}")
            assert (status, body["error"]["code"]) == (400, code), path
        assert one.groups == ["chat"]


async def test_a_member_is_removed_and_told_so() -> None:
    async with served() as world:
        client = await world.connect("/ws?group=chat&group=news&format=json")
        (one,) = connections(world)
        await trio.testing.wait_all_tasks_blocked()
        assert await delete(world, f"/groups/news/members/{one.id}?reason=off+topic") == (200, {"removed": 1})
        assert await delete(world, f"/groups/news/members/{one.id}") == (200, {"removed": 0})
        with trio.fail_after(5):
            *_, told = [msgspec.json.decode(await client.receive()) for _ in range(3)]
        epoch = told["left"]["epoch"]
        left = {"epoch": epoch, "offset": 0, "code": 3503, "reason": "off topic"}
        assert told == {"group": "news", "left": left}
        assert one.groups == ["chat"]
        status, body = await delete(world, f"/groups/a*b/members/{one.id}")
        assert (status, body["error"]["code"]) == (400, "invalid_group_name")


async def test_others_are_told_at_once_that_somebody_was_removed_though_who_leaves_has_a_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(presence_grace=60.0) as world:
        watcher = await world.connect("/ws/chat?format=json&presence=1")
        (seer,) = connections(world)

        async def left() -> Any:
            while True:
                told = msgspec.json.decode(await watcher.receive()).get("presence")
                if isinstance(told, dict) and "left" in told:
                    return told["left"]

        for _ in range(3):
            await world.connect("/ws/chat?format=json")
        ann, bob, eve = (each.id for each in connections(world) if each is not seer)
        begun = trio.current_time()
        assert await delete(world, f"/groups/chat/members/{ann}") == (200, {"removed": 1})
        assert await left() == [{"client": ann, "reason": "removed"}]
        assert await delete(world, f"/connections/{bob}") == (200, {"closed": 1})
        assert await left() == [{"client": bob, "reason": "removed"}]
        assert await world.app.extensions["triocast"].disconnect(client=eve) == 1
        assert await left() == [{"client": eve, "reason": "removed"}]
        assert trio.current_time() - begun < 5


@pytest.mark.parametrize("id_", ODD_IDS)
async def test_ids_that_nobody_has_are_those_of_nobody(id_: str) -> None:
    async with served() as world:
        client = await world.connect("/ws/chat")
        for path, what in (("/connections/", "closed"), ("/groups/chat/members/", "removed")):
            assert await delete(world, path + quote(id_, safe="%")) == (200, {what: 0})
        assert len(connections(world)) == 1
        await client.close()


USERS = ("ann", "Zoë Müller", "a/b", "a/connections", "a%2Fb", "100%", "?", "x" * 255, "..")


@pytest.mark.parametrize("user", USERS)
async def test_a_users_connections_are_closed_whatever_the_name(user: str) -> None:
    app = QuartTrio(__name__)
    app.url_map.merge_slashes = False
    push = Triocast(app, harden=False)
    app.register_blueprint(routes(push))

    @app.websocket("/as/<int:number>")
    async def ws(number: int) -> None:
        async with push.connect("chat", user=USERS[number]) as connection:
            async for _ in connection:
                pass

    async with simulate(app) as world:
        clients = {each: await world.connect(f"/as/{number}") for number, each in enumerate(USERS)}
        path = f"/users/{quote(user, safe='')}/connections"
        assert await delete(world, path) == (200, {"closed": 1})
        assert await clients.pop(user).wait_closed() == Closed(3503, "disconnected by the server")
        assert {each.user for each in connections(world)} == set(clients)
        assert await delete(world, path) == (200, {"closed": 0})


@pytest.mark.parametrize("user", ["", "x" * 256, "a\nb", "\x00"])
async def test_what_can_be_no_user_is_refused(user: str) -> None:
    async with served() as world:
        status, body = await delete(world, f"/users/{quote(user, safe='')}/connections")
        assert (status, body["error"]["code"]) == (400, "invalid_identity")


@pytest.mark.parametrize("path", ["/connections/x", "/users/ann/connections", "/groups/chat/members/x"])
async def test_only_who_may_publish_may_part_with_clients(path: str) -> None:
    async with served(api_key="k" * 16) as world:
        assert (await delete(world, path))[0] == 401
        assert (await delete(world, path, Authorization="Bearer wrong"))[0] == 403
        assert (await delete(world, path, **{"X-API-Key": "k" * 16}))[0] == 200
    async with served() as world:
        assert (await delete(world, path, Origin="https://foreign.example"))[0] == 403
        assert (await delete(world, path, **{"X-Forwarded-For": "10.0.0.1"}))[0] == 403


@pytest.mark.parametrize("path", ["/connections/x", "/users/ann/connections"])
async def test_it_takes_no_other_method(path: str) -> None:
    async with served() as world:
        for method in ("GET", "POST", "PUT"):
            response = await world.http.open(path, method=method)
            assert response.status_code == 405
