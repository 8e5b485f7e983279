"""Where a listener goes on after a loss, and what it makes of offsets that do not follow, on a virtual clock."""

import pytest
import trio
import trio.testing
from tests.client.websocket_server import accept_at, connected, joined, message, serving

from triocast.client import Gap, Received, UnexpectedFrame

EPOCH = '{"group":"chat","gap":{"from":1,"to":9,"count":9,"reason":"epoch","epochs":["e","f"]}}'
LOST = '{"group":"chat","gap":{"from":4,"to":9,"count":6,"reason":"lost"}}'


@pytest.mark.parametrize(
    ("again", "gap"),
    [
        ([joined(3), *map(message, range(4, 10))], [Received("x", "chat", offset) for offset in range(4, 10)]),
        ([joined(9), LOST], [Gap("chat", 4, 9, "lost")]),
        ([joined(9, epoch="f"), EPOCH], [Gap("chat", 1, 9, "epoch", ("e", "f"))]),
        # Servers that do not know what `since` means, and say nothing of what they leave out:
        ([joined(9)], [Gap("chat", 4, 9, "untold")]),
        ([joined(9, epoch="f")], [Gap("chat", 1, 9, "epoch", ("e", "f"))]),
    ],
)
async def test_it_goes_on_where_it_was_and_what_it_misses_is_a_gap(again, gap, autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in (joined(2), message(3)):
            await websocket.send_message(frame)
        assert await anext(messages) == Received("x", "chat", 3)
        server.soon(websocket.aclose, 1012, "restarting")
        back = await server.accept()
        assert back.path == "/ws?group=chat&format=json&since=e:3"
        for frame in (*again, message(10)):
            await back.send_message(frame)
        assert [await anext(messages) for _ in range(len(gap) + 1)] == [*gap, Received("x", "chat", 10)]
        assert messages.positions == {"chat": "f:10" if '"epoch":"f"' in again[0] else "e:10"}


async def test_what_was_only_begun_is_asked_for_again(autojump_clock):
    async with serving() as server, connected(server, ["a", "b"], since="0", format="json") as (messages, websocket):
        assert websocket.path == "/ws?group=a&group=b&format=json&since=0&since=0"
        for frame in (joined(5, group="a"), joined(2, group="b"), message(3, group="b")):
            await websocket.send_message(frame)
        assert await anext(messages) == Received("x", "b", 3)
        await websocket._stream.aclose()
        back = await server.accept()
        # Of a, where a gap may still be to come, everything; of b what follows.
        assert back.path == "/ws?group=a&group=b&format=json&since=e:0&since=e:3"
        assert messages.positions == {"a": "e:0", "b": "e:3"}


async def test_a_group_of_which_nothing_came_goes_on_where_its_stream_began(autojump_clock):
    async with serving() as server:
        server.soon(accept_at, server, "e:41, f:0")
        async with server.listen(["a", "b"], format="json", last=3) as messages:
            assert messages.positions == {"a": "e:41", "b": "f:0"}
            back = await server.request()
            assert back.path == "/ws?group=a&group=b&format=json&since=e:41&since=f:0"
    assert server.dialled == 2


async def test_without_a_position_it_begins_anew(autojump_clock):
    async with serving() as server, connected(server, ["a", "b"], format="json") as (messages, websocket):
        await websocket.send_message(joined(5, group="a"))
        await websocket.send_message(message(6, group="a"))
        assert await anext(messages) == Received("x", "a", 6)
        await websocket._stream.aclose()
        assert (await server.request()).path == "/ws?group=a&group=b&format=json"
        assert messages.positions == {"a": "e:6"}


async def test_a_message_that_came_already_is_an_error(autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in (joined(0), message(1), message(2), message(2)):
            await websocket.send_message(frame)
        assert [(await anext(messages)).offset for _ in range(2)] == [1, 2]
        with pytest.raises(UnexpectedFrame, match="the server sent 2 of chat after 2, which is not in order"):
            await anext(messages)


async def test_a_hole_in_mid_stream_is_a_gap_of_our_own(autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in (joined(0), message(1), message(4)):
            await websocket.send_message(frame)
        assert [await anext(messages) for _ in range(3)] == [
            Received("x", "chat", 1),
            Gap("chat", 2, 3, "untold"),
            Received("x", "chat", 4),
        ]


async def test_positions_are_those_of_what_was_given_not_of_what_waits(autojump_clock):
    async with serving() as server, connected(server, format="json") as (messages, websocket):
        for frame in (joined(0), message(1), message(2), message(3)):
            await websocket.send_message(frame)
        await anext(messages)
        await trio.testing.wait_all_tasks_blocked()
        assert messages.positions == {"chat": "e:1"}
        await websocket._stream.aclose()
        assert (await server.request()).path.endswith("&since=e:3")


async def test_raw_messages_of_one_group_are_counted_from_where_the_handshake_says(autojump_clock):
    async with serving() as server:
        send, accepted = trio.open_memory_channel(1)

        async def accept():
            await send.send(await accept_at(server, "e:41", lose=False))

        server.soon(accept)
        async with server.listen() as messages:
            websocket = await accepted.receive()
            assert websocket.path == "/ws?group=chat&format=raw&strict=1"
            await websocket.send_message("x")
            assert await anext(messages) == Received("x", "chat", 42)
            server.soon(websocket.aclose, 4010, "missed 43 to 50 (slow), come back: chat")
            # What is gone is gone: it is told so by where the server begins, closed, and goes on from there.
            second = await server.request()
            assert second.path == "/ws?group=chat&format=raw&strict=1&since=e:42"
            lost = await second.accept(extra_headers=[(b"Triocast-Position", b"e:50")])
            server.soon(lost.aclose, 4010, "missed 43 to 50 (lost), come back: chat")
            assert await anext(messages) == Gap("chat", 43, 50, "untold")
            third = await server.request()
            assert third.path.endswith("&since=e:50")
            afresh = await third.accept(extra_headers=[(b"Triocast-Position", b"f:2")])
            await afresh.send_message("y")
            assert [await anext(messages) for _ in range(2)] == [
                Gap("chat", 1, 2, "epoch", ("e", "f")),
                Received("y", "chat", 3),
            ]
            assert messages.positions == {"chat": "f:3"}


async def test_raw_messages_of_several_groups_do_not_go_on(autojump_clock):
    async with serving() as server:
        server.soon(accept_at, server, "e:41, f:0")
        async with server.listen(["a", "b"], since={"a": "e:1", "b": "0"}) as messages:
            assert (await server.request()).path == "/ws?group=a&group=b&format=raw"
            assert messages.positions == {}


@pytest.mark.parametrize("header", ["nonsense", "e:1, f:2", "e:-1", ""])
async def test_a_header_that_says_no_position_is_passed_over(header, autojump_clock):
    async with serving() as server:
        server.soon(accept_at, server, header)
        async with server.listen(format="json") as messages:
            assert (await server.request()).path == "/ws?group=chat&format=json"
            assert messages.positions == {}
