"""The chat of the examples, in memory: what it refuses, and that only the client that asks for it is slow."""

from __future__ import annotations

import json
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from quart import Response

from triocast.testing import Client, World, simulate

CHAT = Path(__file__).parent.parent / "examples/chat/chat.py"
ID = "0123456789abcdef"


@asynccontextmanager
async def chat() -> AsyncIterator[World]:
    async with simulate(runpy.run_path(str(CHAT))["app"]) as world:
        yield world


async def come(world: World, query: str = "") -> Client:
    """Connect as a page does, and take the greeting."""
    client = await world.connect(f"/ws?name=Ann{query}", {"Cookie": "chat=ann"})
    assert "joined" in json.loads(await client.receive())
    assert json.loads(await client.receive())["presence"] == "reset"
    return client


async def told(client: Client) -> dict[str, Any]:
    """Return the next message or gap, past who comes and goes."""
    while "presence" in (frame := json.loads(await client.receive())):
        pass
    return dict(frame)


async def say(world: World, said: object, cookie: str = "chat=ann") -> Response:
    response: Response = await world.http.post("/say", data=json.dumps(said), headers={"Cookie": cookie})
    return response


async def test_the_page_gives_a_cookie_once_and_tells_a_digest_of_it() -> None:
    async with chat() as world:
        response = await world.http.get("/")
        cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie  # with Strict, a link on another site would lead to a new cookie
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        secret = cookie.partition(";")[0].partition("=")[2]
        page = await response.get_data(as_text=True)
        assert secret not in page
        again = await (await world.http.get("/", headers={"Cookie": f"chat={secret}"})).get_data(as_text=True)
        assert again == page
        for file in ("chat.css", "chat.js"):
            assert f'"{file}"' in page
            assert (await world.http.get(f"/{file}")).status_code == 200


async def test_what_is_said_twice_with_one_id_is_told_once() -> None:
    async with chat() as world:
        client = await come(world)
        said = {"id": ID, "name": " Ann\t", "text": "hello\nthere"}
        first, second = await say(world, said), await say(world, said)
        assert await first.get_json() == await second.get_json()
        await say(world, {**said, "id": ID + "1"})
        one, two = await told(client), await told(client)
        assert (one["offset"], two["offset"]) == (1, 2)
        assert one["data"] == {"id": ID, "user": one["data"]["user"], "name": "Ann", "text": "hello\nthere"}
        assert "ann" not in one["data"]["user"]


@pytest.mark.parametrize(
    "said",
    [
        {"id": ID, "name": " ", "text": "x"},
        {"id": ID, "name": "x", "text": " \n"},
        {"id": ID, "name": "x" * 41, "text": "x"},
        {"id": ID, "name": "x", "text": "x" * 2001},
        {"id": "no id", "name": "x", "text": "x"},
        {"id": ID, "name": "x"},
        "x",
    ],
)
async def test_what_cannot_be_said_is_refused(said: object) -> None:
    async with chat() as world:
        assert (await say(world, said)).status_code == 400
        history = await world.app.extensions["triocast"].group("chat").history()
        assert history.messages == ()


async def test_nobody_says_anything_without_the_cookie() -> None:
    async with chat() as world:
        assert (await say(world, {"id": ID, "name": "x", "text": "x"}, cookie="other=1")).status_code == 403
        assert (await world.http.post("/robot")).status_code == 403


async def test_a_slow_line_takes_one_frame_a_second_and_its_gaps_are_the_policys(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with chat() as world:
        fast, slow = await come(world), await come(world, "&slow=1")
        began = trio.current_time()
        await world.http.post("/robot", headers={"Cookie": "chat=ann"})
        assert [(await told(fast))["offset"] for _ in range(30)] == list(range(1, 31))
        assert trio.current_time() - began < 0.5  # nobody else is slowed down
        frames = []
        while not frames or frames[-1].get("offset") != 30:
            frames.append(json.loads(await slow.receive()))
        assert len(frames) <= trio.current_time() - began < len(frames) + 1
        frames = [frame for frame in frames if "presence" not in frame]
        offsets = []
        for each in frames:
            gap = each.get("gap", {"from": each.get("offset"), "to": each.get("offset"), "reason": "slow"})
            assert gap["reason"] == "slow"
            offsets += range(gap["from"], gap["to"] + 1)
        assert offsets == list(range(1, 31))
        assert len(frames) < 30
