"""What a client of `/ws` can ask for: JSON instead of bare payloads, and to be closed instead of missing something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio.testing
from quart_trio import QuartTrio

from triocast import GroupSettings, Policy, Settings, Triocast
from triocast.testing import Client, World, simulate
from triocast.web import create_app


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        yield world


async def member(world: World, path: str, room: float = float("inf")) -> Client:
    """Connect, and return once the server has done all it does then."""
    client = await world.connect(path, room=room)
    await trio.testing.wait_all_tasks_blocked()
    return client


async def publish(world: World, group: str, *bodies: str) -> None:
    for body in bodies:
        assert (await world.http.post(f"/publish/{group}", data=body.encode())).status_code == 200


async def told(client: Client) -> Any:
    """Return what the next frame says."""
    frame = await client.receive()
    assert isinstance(frame, str)
    return msgspec.json.decode(frame)


async def test_every_kind_comes_in_an_object_with_group_and_offset() -> None:
    async with served() as world:
        await publish(world, "sample", "before")
        client = await member(world, "/ws/sample?format=json")
        info = await (await world.http.get("/groups/sample")).get_json()
        joined = await told(client)
        assert list(joined) == ["group", "joined"]
        assert list(joined["joined"]) == ["epoch", "offset", "policy", "client"]
        assert joined["group"] == "sample"
        assert joined["joined"] | {"client": None} == {
            "epoch": info["epoch"],
            "offset": 1,
            "policy": "drop_oldest",
            "client": None,
        }
        assert joined["joined"]["client"]
        for content_type, body in (
            ("text/plain", "grüße".encode()),
            ("application/json", b'{"price": 1.10}\n'),
            ("application/octet-stream", b"\x00\xff"),
        ):
            await world.http.post("/publish/sample", data=body, headers={"Content-Type": content_type})
        assert [await client.receive() for _ in range(3)] == [
            '{"group":"sample","offset":2,"data":"grüße"}',
            '{"group":"sample","offset":3,"data":{"price": 1.10}\n}',
            '{"group":"sample","offset":4,"b64data":"AP8="}',
        ]


async def test_each_group_of_a_client_begins_before_its_first_message() -> None:
    async with served() as world:
        client = await member(world, "/ws?group=a&group=b&format=json")
        await publish(world, "b", "x")
        await publish(world, "a", "y")
        frames = [await told(client) for _ in range(4)]
        assert [frame["group"] for frame in frames if "joined" in frame] == ["a", "b"]
        assert [(frame["group"], frame["data"]) for frame in frames if "data" in frame] == [("b", "x"), ("a", "y")]
        assert len({frame["joined"]["client"] for frame in frames if "joined" in frame}) == 1


async def test_raw_is_what_a_client_gets_that_asks_for_it_or_for_nothing() -> None:
    async with served() as world:
        clients = [await member(world, path) for path in ("/ws/a", "/ws/a?format=raw", "/ws/a?strict=0")]
        await publish(world, "a", "x")
        assert [await client.receive() for client in clients] == ["x", "x", "x"]


async def test_a_client_that_lags_is_told_of_the_gap_in_its_place() -> None:
    async with served(max_lag=3) as world:
        client = await member(world, "/ws/a?format=json")
        await publish(world, "a", "1")
        await trio.testing.wait_all_tasks_blocked()
        client.stall()
        await publish(world, "a", *"23456789")
        client.resume()
        frames = [await told(client) for _ in range(7)]
        assert [frame.get("offset") for frame in frames] == [None, 1, 2, None, 7, 8, 9]
        assert frames[3] == {"group": "a", "gap": {"from": 3, "to": 6, "count": 4, "reason": "slow"}}


async def test_what_is_superseded_is_a_gap_too() -> None:
    async with served(namespaces={"prices": GroupSettings(policy=Policy.LATEST, max_lag=3)}) as world:
        client = await member(world, "/ws/prices:eur?format=json")
        assert (await told(client))["joined"]["policy"] == "latest"
        client.stall()
        await publish(world, "prices:eur", *"123456789")
        client.resume()
        frames = [await told(client) for _ in range(4)]
        assert [frame["gap"]["reason"] for frame in frames if "gap" in frame] == ["slow", "superseded"]
        assert (frames[0]["offset"], frames[-1]["offset"]) == (1, 9)


async def test_a_raw_client_that_lags_misses_in_silence_and_the_loss_is_counted() -> None:
    async with served(max_lag=3) as world:
        client = await member(world, "/ws/a")
        client.stall()
        await publish(world, "a", *"123456789")
        client.resume()
        assert [await client.receive() for _ in range(4)] == ["1", "7", "8", "9"]
        shown = await (await world.http.get("/groups/a")).get_json()
        assert (shown["dropped"], shown["evicted"]) == (5, 0)


@pytest.mark.parametrize("form", ["raw", "json"])
async def test_a_strict_client_is_closed_with_4010_and_what_it_would_have_missed(form: str) -> None:
    async with served(max_lag=3) as world:
        client, other = await member(world, f"/ws/a?strict=1&format={form}"), await member(world, "/ws/a")
        client.stall()
        await publish(world, "a", *"123456789")
        client.resume()
        closed = await client.wait_closed()
        assert (closed.code, closed.reason) == (4010, "missed 2 to 6 (slow), come back: a")
        assert [await other.receive() for _ in range(9)] == list("123456789")
        again = await member(world, f"/ws/a?strict=1&format={form}")
        await publish(world, "a", "more")
        frames = [await again.receive() for _ in range(1 if form == "raw" else 2)]
        assert isinstance(frames[-1], str)
        assert "more" in frames[-1]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("format=xml", "no such format: it is one of raw, json, given once"),
        ("format=", "no such format: it is one of raw, json, given once"),
        ("format=JSON", "no such format: it is one of raw, json, given once"),
        ("format=json&format=raw", "no such format: it is one of raw, json, given once"),
        ("strict=yes", "strict is 1 or 0, given once"),
        ("strict=1&strict=1", "strict is 1 or 0, given once"),
    ],
)
@pytest.mark.parametrize("path", ["/ws/a?", "/ws?group=a&"])
async def test_who_asks_for_what_there_is_not_is_closed_with_what_there_is(path: str, asked: str, reason: str) -> None:
    async with served() as world:
        closed = await (await member(world, path + asked)).wait_closed()
        assert (closed.code, closed.reason) == (1008, reason)
        assert world.app.extensions["triocast"].hub.groups == 0


async def test_what_clients_publish_comes_back_in_each_ones_format() -> None:
    async with served(client_publish=True) as world:
        in_json, raw = await member(world, "/ws/a?format=json"), await member(world, "/ws/a")
        await in_json.send('{"not": "unwrapped"}')
        assert await raw.receive() == '{"not": "unwrapped"}'
        assert "joined" in await told(in_json)
        assert await told(in_json) == {"group": "a", "offset": 1, "data": '{"not": "unwrapped"}'}


async def test_a_handler_of_ones_own_can_ask_for_the_same() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, Settings(max_lag=3), harden=False)

    @app.websocket("/mine")
    async def mine() -> None:
        async with push.connect("a", format="json", strict=True) as connection:
            await connection.send('{"hello":"you"}')
            async for _ in connection:
                pass

    @app.websocket("/wrong")
    async def wrong() -> None:
        with pytest.raises(ValueError, match="no such format: 'xml'; there are raw, json"):
            async with push.connect("a", format="xml"):  # type: ignore[arg-type]
                pytest.fail("there is no connection")
        async with push.connect("a") as connection:
            await connection.send("after all")

    async with simulate(app) as world:
        client = await member(world, "/mine")
        frames = [await told(client), await told(client)]
        assert {"hello": "you"} in frames
        assert any("joined" in frame for frame in frames)
        client.stall()
        for number in range(9):
            await push.group("a").send(number)
        client.resume()
        assert (await client.wait_closed()).code == 4010
        assert await (await world.connect("/wrong")).receive() == "after all"


async def test_whoever_is_told_open_misses_nothing_published_from_then_on() -> None:
    app = create_app(Settings(), harden=False)
    push = app.extensions["triocast"]
    async with simulate(app) as world:
        for number in range(20):
            client = await world.connect(f"/ws/{number}")
            receipt = await push.group(f"{number}").send("at once")
            assert receipt.subscribers == 1
            assert await client.receive() == "at once"
