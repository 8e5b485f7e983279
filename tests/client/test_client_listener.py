"""What a listener by WebSocket gives for what a server sends, on a virtual clock."""

import pytest
from tests.client.websocket_server import connected, joined, message, serving

from triocast.client import Gap, ListenerClosed, Received, UnexpectedFrame


async def test_messages_come_in_order_and_as_they_were_sent(autojump_clock):
    sent = ["one", b"two", "", b"", "fünf"]
    async with serving() as server, connected(server) as (messages, websocket):
        for message in sent:
            await websocket.send_message(message)
        assert [await anext(messages) for _ in sent] == [Received(message, "chat") for message in sent]


async def test_the_groups_are_asked_for_in_the_path_and_named_only_if_there_is_one(autojump_clock):
    async with serving() as server, connected(server, ["a:1", "b,c"]) as (messages, websocket):
        assert websocket.path == "/ws?group=a%3A1&group=b%2Cc&format=raw"
        await websocket.send_message("hello")
        assert await anext(messages) == Received("hello", None)


async def test_in_json_every_message_has_its_group_and_offset(autojump_clock):
    async with serving() as server, connected(server, ["a", "b"], format="json") as (messages, websocket):
        assert websocket.path == "/ws?group=a&group=b&format=json"
        for frame in (
            joined(6, group="a"),
            message(7, '"text"', group="a"),
            joined(0, group="b"),
            message(1, '{"a": 1.10}', group="b"),
            '{"group":"a","offset":8,"b64data":"AP8="}',
        ):
            await websocket.send_message(frame)
        assert [await anext(messages) for _ in range(3)] == [
            Received("text", "a", 7),
            Received('{"a": 1.10}', "b", 1, is_json=True),
            Received(b"\x00\xff", "a", 8),
        ]


async def test_gaps_come_in_their_place(autojump_clock):
    gap = '{"group":"chat","gap":{"from":2,"to":4,"count":3,"reason":"slow"}}'
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in (joined(0), message(1), gap, message(5)):
            await websocket.send_message(frame)
        assert [await anext(messages) for _ in range(3)] == [
            Received("x", "chat", 1),
            Gap("chat", 2, 4, "slow"),
            Received("x", "chat", 5),
        ]


@pytest.mark.parametrize("frame", ["plain text", "[]", '{"offset":1}', "{", b"{}"])
async def test_a_server_that_does_not_know_the_format_is_named_and_left(frame, autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        await websocket.send_message(frame)
        with pytest.raises(UnexpectedFrame, match="is it a Triocast"):
            await anext(messages)
        assert websocket.closed.code == 1000
    assert server.dialled == 1


async def test_objects_of_a_kind_we_do_not_know_are_passed_over(autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in ('{"group":"chat","news":{}}', message(1)):
            await websocket.send_message(frame)
        assert await anext(messages) == Received("x", "chat", 1)


async def test_the_largest_message_comes_in_json_too_and_a_larger_one_does_not(autojump_clock):
    escaped = "\\u0000"
    async with (
        serving(settings={"max_message": 500}) as server,
        connected(server, format="json") as (messages, websocket),
    ):
        await websocket.send_message(message(1, f'"{500 * escaped}"'))
        assert await anext(messages) == Received(500 * "\0", "chat", 1)
        await websocket.send_message(message(2, f'"{501 * "x"}"'))
        with pytest.raises(ListenerClosed, match=r"closed with 1009: .*max_message: 500"):
            await anext(messages)


async def test_a_message_over_the_limit_ends_the_messages(autojump_clock):
    async with serving(settings={"max_message": 10}) as server, connected(server) as (messages, websocket):
        await websocket.send_message("x" * 10)
        assert (await anext(messages)).data == "x" * 10
        await websocket.send_message("x" * 11)
        with pytest.raises(ListenerClosed, match="closed with 1009"):
            await anext(messages)


async def test_its_repr_tells_its_state(autojump_clock):
    async with serving() as server, connected(server, ["a", "b"]) as (messages, _):
        assert repr(messages) == "<Listener to a, b at http://server:8000, connected>"
