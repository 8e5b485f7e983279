"""Coming back over WebSocket: `since`, `last`, the header that says where a stream begins, and what is refused."""

from __future__ import annotations

import pytest

from tests.link.harness import TEXT, Client
from tests.served import served as real
from tests.web.test_formats import member, publish, served, told
from triocast.testing import Client as MemoryClient
from triocast.testing import World


async def epoch_of(world: World, group: str) -> str:
    info = await (await world.http.get(f"/groups/{group}")).get_json()
    epoch: str = info["epoch"]
    return epoch


def position(client: MemoryClient) -> bytes:
    return dict(client.accepted_headers)[b"triocast-position"]


async def test_a_payload_only_client_counts_from_where_its_handshake_says() -> None:
    async with served(history_size=3) as world:
        first = await member(world, "/ws/a")
        await publish(world, "a", "1", "2", "3", "4", "5")
        epoch = await epoch_of(world, "a")
        assert position(first).endswith(b":0")
        back = await member(world, f"/ws/a?since={epoch}:3")
        assert position(back) == f"{epoch}:3".encode()
        await publish(world, "a", "6")
        assert [await back.receive() for _ in range(3)] == ["4", "5", "6"]
        late = await member(world, f"/ws/a?since={epoch}:1")
        assert position(late) == f"{epoch}:3".encode()  # two are gone: it can see that
        assert [await late.receive() for _ in range(3)] == ["4", "5", "6"]


async def test_in_json_the_gap_stands_before_what_could_be_recovered() -> None:
    async with served(history_size=3) as world:
        await publish(world, "a", "1", "2", "3", "4", "5")
        epoch = await epoch_of(world, "a")
        client = await member(world, f"/ws/a?since={epoch}:1&format=json")
        assert (await told(client))["joined"]["offset"] == 2
        assert await told(client) == {"group": "a", "gap": {"from": 2, "to": 2, "count": 1, "reason": "lost"}}
        assert [(await told(client))["offset"] for _ in range(3)] == [3, 4, 5]


async def test_another_epoch_is_named_with_the_one_there_is() -> None:
    async with served() as world:
        await publish(world, "a", "1")
        epoch = await epoch_of(world, "a")
        client = await member(world, "/ws/a?since=bygone:7&format=json")
        assert (await told(client))["joined"]["offset"] == 0
        gap = {"from": 1, "to": 0, "count": 0, "reason": "epoch", "epochs": ["bygone", epoch]}
        assert await told(client) == {"group": "a", "gap": gap}
        assert (await told(client))["offset"] == 1


async def test_each_group_has_its_own_position_in_the_order_of_the_groups() -> None:
    async with served() as world:
        await publish(world, "a", "a1", "a2")
        await publish(world, "b", "b1", "b2")
        a, b = await epoch_of(world, "a"), await epoch_of(world, "b")
        client = await member(world, f"/ws?group=b&since={b}:1&group=a&since=0")
        assert position(client) == f"{b}:1, {a}:0".encode()
        assert sorted([str(await client.receive()) for _ in range(3)]) == ["a1", "a2", "b2"]


async def test_the_last_few_and_the_oldest_kept() -> None:
    async with served(history_size=3) as world:
        await publish(world, "a", "1", "2", "3", "4", "5")
        last, all_kept = await member(world, "/ws/a?last=2"), await member(world, "/ws/a?since=0")
        assert [await last.receive(), await last.receive()] == ["4", "5"]
        assert [await all_kept.receive() for _ in range(3)] == ["3", "4", "5"]


async def test_a_strict_client_that_cannot_have_all_is_told_so() -> None:
    async with served(history_size=3) as world:
        await publish(world, "a", "1", "2", "3", "4", "5")
        epoch = await epoch_of(world, "a")
        assert (await (await member(world, f"/ws/a?since={epoch}:0&strict=1")).wait_closed()).code == 4010
        good = await member(world, f"/ws/a?since={epoch}:2&strict=1")
        assert [await good.receive() for _ in range(3)] == ["3", "4", "5"]


@pytest.mark.parametrize(
    "query",
    [
        "group=a&since=x",
        "group=a&since=",
        "group=a&since=e:1&since=e:2",
        "group=a&group=b&since=e:1",
        "group=a&group=a&since=e:1&since=e:1",
        "group=a&last=0",
        "group=a&last=-1",
        "group=a&last=1&last=2",
        "group=a&last=1&since=e:1",
        "group=a&last=9999999999",
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence_that_says_what_does(query: str) -> None:
    async with served() as world:
        closed = await (await member(world, f"/ws?{query}")).wait_closed()
        assert closed.code == 1008
        assert closed.reason.startswith(("since is EPOCH:OFFSET", "last is how many"))


async def test_over_a_real_socket_what_was_missed_comes_before_what_is_live() -> None:
    async with real() as world:
        for number in range(3):
            await world.publish("a", b"%d" % number)
        client = Client(await world.connect())
        await client.send(
            b"GET /ws/a?last=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = await client.until(b"\r\n\r\n")
        epoch = (await world.hub.info("a")).epoch
        assert f"triocast-position: {epoch}:1\r\n".encode() in head
        await world.publish("a", b"live")
        assert [await client.frame() for _ in range(3)] == [(TEXT, b"1"), (TEXT, b"2"), (TEXT, b"live")]
        client.reset()
