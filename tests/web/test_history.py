"""Reading history over HTTP: what is answered, page by page, and to whom."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from triocast import GroupSettings, Settings, Triocast
from triocast.engines.memory import MemoryEngine
from triocast.testing import World, simulate
from triocast.web import create_app, routes


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    settings = Settings(**values)
    engine = MemoryEngine(settings, new_epoch=lambda: "e")
    async with simulate(create_app(settings, engine=engine, harden=False)) as world:
        yield world


async def get(world: World, path: str, status: int = 200, **more: Any) -> dict[str, Any]:
    response = await world.http.get(path, **more)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = msgspec.json.decode(await response.get_data(as_text=False))
    return body


async def publish(world: World, count: int, group: str = "g") -> None:
    for number in range(1, count + 1):
        await world.http.post(f"/publish/{group}", data=str(number))


def offsets(body: Mapping[str, Any]) -> list[int]:
    return [message["offset"] for message in body["messages"]]


async def test_messages_are_told_as_a_json_client_is_told_them() -> None:
    async with served() as world:
        listener = await world.connect("/ws/g?format=json")
        assert "joined" in await listener.receive()
        kinds = {
            "text/plain": "grüße".encode(),
            "application/json": b'{"a": 1.10}',
            "application/octet-stream": b"\xff",
        }
        for content_type, data in kinds.items():
            await world.http.post("/publish/g", data=data, headers={"Content-Type": content_type})
        response = await world.http.get("/groups/g/messages")
        live = ",".join([str(await listener.receive()) for _ in kinds])
        expected = f'{{"group":"g","epoch":"e","offset":3,"messages":[{live}],"next":null}}'
        assert await response.get_data(as_text=True) == expected
        assert '"data":{"a": 1.10}' in expected
        assert base64.b64encode(b"\xff").decode() in expected


async def test_a_message_that_has_a_key_is_told_with_it() -> None:
    async with served() as world:
        await world.http.post("/publish/g?key=%22a%22%20%C3%A9", data=b"x")
        await world.http.post("/publish/g?key=k", data=b"[]", headers={"Content-Type": "application/json"})
        await world.http.post("/publish/g", data=b"x")
        messages = (await get(world, "/groups/g/messages"))["messages"]
        assert messages[0] == {"group": "g", "offset": 1, "data": "x", "key": '"a" é'}
        assert messages[1] == {"group": "g", "offset": 2, "data": [], "key": "k"}
        assert "key" not in messages[2]


@pytest.mark.parametrize("reverse", [0, 1])
async def test_a_client_pages_through_all_of_it_by_passing_next_on(reverse: int) -> None:
    async with served() as world:
        await publish(world, 10)
        pages, since = [], ""
        while True:
            page = await get(world, f"/groups/g/messages?limit=4&reverse={reverse}{since}")
            assert (page["group"], page["epoch"], page["offset"]) == ("g", "e", 10)
            assert "gap" not in page
            pages.append(offsets(page))
            if page["next"] is None:
                break
            since = f"&since={page['next']}"
        forward = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        backward = [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]
        assert pages == (backward if reverse else forward)


@pytest.mark.parametrize(
    ("query", "expected", "following"),
    [
        ("", list(range(6, 11)), None),
        ("?since=0", list(range(6, 11)), None),
        ("?since=0&limit=2", [6, 7], "e:7"),
        ("?since=e:8", [9, 10], None),
        ("?since=e%3A8&reverse=0", [9, 10], None),
        ("?since=e:10", [], None),
        ("?since=e:8&reverse=1", [7, 6], None),
        ("?since=e:8&reverse=1&limit=1", [7], "e:7"),
        ("?reverse=1&limit=3", [10, 9, 8], "e:8"),
        ("?limit=1000&unknown=1", list(range(6, 11)), None),
    ],
)
async def test_since_and_reverse_say_where_to_begin_and_which_way(
    query: str, expected: list[int], following: str | None
) -> None:
    async with served(history_size=5) as world:
        await publish(world, 10)
        page = await get(world, f"/groups/g/messages{query}")
        assert (offsets(page), page["next"]) == (expected, following)


@pytest.mark.parametrize(
    ("query", "gap"),
    [
        ("since=e:2", {"from": 3, "to": 5, "count": 3, "reason": "lost"}),
        ("since=e:0", {"from": 1, "to": 5, "count": 5, "reason": "lost"}),
        ("reverse=1", {"from": 1, "to": 5, "count": 5, "reason": "lost"}),
        ("since=old:7", {"from": 1, "to": 5, "count": 5, "reason": "epoch", "epochs": ["old", "e"]}),
        ("since=e:11", {"from": 1, "to": 5, "count": 5, "reason": "epoch", "epochs": ["e", "e"]}),
        ("since=old:7&reverse=1", {"from": 1, "to": 0, "count": 0, "reason": "epoch", "epochs": ["old", "e"]}),
    ],
)
async def test_what_is_not_kept_is_named_by_a_gap(query: str, gap: dict[str, object]) -> None:
    async with served(history_size=5) as world:
        await publish(world, 10)
        page = await get(world, f"/groups/g/messages?{query}")
        assert list(page) == ["group", "epoch", "offset", "gap", "messages", "next"]
        assert page["gap"] == gap


async def test_100_messages_come_at_once_unless_another_number_is_asked_for() -> None:
    async with served(history_size=1000) as world:
        await publish(world, 101)
        page = await get(world, "/groups/g/messages")
        assert (len(page["messages"]), page["next"]) == (100, "e:100")
        assert len((await get(world, "/groups/g/messages?limit=1000"))["messages"]) == 101


async def test_a_group_that_nobody_knows_is_an_empty_page() -> None:
    empty = {"group": "nobody", "epoch": "", "offset": 0, "messages": [], "next": None}
    async with served() as world:
        assert await get(world, "/groups/nobody/messages") == empty
        assert await get(world, "/groups/nobody/messages?reverse=1") == empty


async def test_each_namespace_keeps_what_it_is_set_to(autojump_clock: trio.testing.MockClock) -> None:
    namespaces = {"none": GroupSettings(history_size=0), "short": GroupSettings(history_ttl=5.0)}
    async with served(namespaces=namespaces) as world:
        for name in ("g", "none:a", "short:a"):
            await publish(world, 2, name)
        assert offsets(await get(world, "/groups/none:a/messages")) == []
        assert offsets(await get(world, "/groups/short:a/messages")) == [1, 2]
        await trio.sleep(6)
        page = await get(world, "/groups/short:a/messages?since=e:1")
        assert (page["offset"], offsets(page)) == (2, [])
        assert page["gap"] == {"from": 2, "to": 2, "count": 1, "reason": "lost"}
        assert offsets(await get(world, "/groups/g/messages")) == [1, 2]


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("/groups/a%20b/messages", "invalid_group_name", "'a b' is not a group name"),
        ("/groups/a%2Fb/messages", "invalid_group_name", "'a/b' is not a group name"),
        ("/groups//messages", "invalid_group_name", "'' is not a group name"),
        ("/groups/g/messages?since=", "invalid_position", "has no ':'"),
        ("/groups/g/messages?since=5", "invalid_position", "has no ':'"),
        ("/groups/g/messages?since=:0", "invalid_position", "begin at 0"),
        ("/groups/g/messages?since=e:-1", "invalid_position", "an offset is"),
        ("/groups/g/messages?since=%ff:1", "invalid_position", "an epoch has"),
        ("/groups/g/messages?since=0&reverse=1", "invalid_position", "leave since out"),
        ("/groups/g/messages?since=e:1&since=e:2", "bad_request", "given once"),
        ("/groups/g/messages?limit=0", "bad_request", "1 to 1000 (100 if left out)"),
        ("/groups/g/messages?limit=1001", "bad_request", "1 to 1000"),
        ("/groups/g/messages?limit=x", "bad_request", "1 to 1000"),
        ("/groups/g/messages?limit=", "bad_request", "1 to 1000"),
        ("/groups/g/messages?limit=1&limit=1", "bad_request", "given once"),
        ("/groups/g/messages?reverse=yes", "bad_request", "reverse is 1"),
        ("/groups/g/messages?reverse=1&reverse=1", "bad_request", "given once"),
    ],
)
async def test_bad_requests_are_answered_with_what_was_wrong(path: str, code: str, told: str) -> None:
    async with served() as world:
        error = (await get(world, path, 400))["error"]
        assert error["code"] == code
        assert told in error["message"]


async def test_only_those_who_may_publish_read_it() -> None:
    async with served(api_key="s3cret") as world:
        assert (await get(world, "/groups/g/messages", 401))["error"]["code"] == "key_required"
        assert (await get(world, "/groups/g/messages", 403, headers={"X-API-Key": "no"}))["error"][
            "code"
        ] == "wrong_key"
        assert (await get(world, "/groups/g/messages", headers={"X-API-Key": "s3cret"}))["messages"] == []
    async with served() as world:
        proxied = {"X-Forwarded-For": "1.2.3.4"}
        assert (await get(world, "/groups/g/messages", 403, headers=proxied))["error"]["code"] == "key_required"
        foreign = {"Origin": "https://evil.example"}
        assert (await get(world, "/groups/g/messages", 403, headers=foreign))["error"]["code"] == "foreign_origin"


async def test_the_path_takes_get_alone_and_leaves_the_groups_own_page_alone() -> None:
    async with served() as world:
        response = await world.http.post("/groups/g/messages")
        assert response.status_code == 405
        assert "GET" in response.headers["Allow"]
        assert (await get(world, "/groups/messages"))["group"] == "messages"
        assert (await get(world, "/groups/messages/messages"))["group"] == "messages"
        assert (await get(world, "/groups/g/messages/", 400))["error"]["code"] == "invalid_group_name"


async def test_an_application_of_ones_own_mounts_it_below_a_prefix() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    app.register_blueprint(routes(push), url_prefix="/push")
    async with simulate(app) as world:
        await push.group("a:b").send("hello")
        page = await get(world, "/push/groups/a:b/messages")
        assert [message["data"] for message in page["messages"]] == ["hello"]
