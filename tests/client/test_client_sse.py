"""What a listener by server-sent events gives for what a server sends, on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from tests.client.event_server import CHUNKED, HEAD, Clock, chunk, connected, joined, message, serving, take

from triocast.client import Gap, Left, ListenerClosed, Lost, Received, UnexpectedFrame


async def test_it_asks_as_an_event_source_does_and_for_json(autojump_clock: Clock) -> None:
    async with serving(headers={"X-Who": "me"}) as server, connected(server, ("a:1", "b")) as (_, asked):
        assert asked.line == "GET /sse?group=a%3A1&group=b&format=json HTTP/1.1"
        assert asked.headers["Host"] == "server:8000"
        assert asked.headers["Accept"] == "text/event-stream"
        assert asked.headers["X-Who"] == "me"


async def test_messages_come_with_group_and_offset_and_gaps_in_their_place(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, ("a", "b")) as (messages, asked):
        await asked.events(
            "retry: 1",
            joined(0, group="a"),
            joined(4, group="b"),
            'data: {"group":"a","offset":1,"data":{"x":\ndata: 1.10}}',
            'data: {"group":"b","offset":5,"b64data":"AP8="}',
            ": still there",
            'event: gap\ndata: {"group":"a","gap":{"from":2,"to":3,"count":2,"reason":"slow"}}',
        )
        assert await take(messages, 3) == [
            Received('{"x":\n1.10}', "a", 1, is_json=True),
            Received(b"\x00\xff", "b", 5),
            Gap("a", 2, 3, "slow"),
        ]
        assert messages.positions == {"a": "e:3", "b": "e:5"}


async def test_in_the_raw_format_the_ids_tell_what_the_payloads_do_not(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, ("a", "b"), format="raw") as (messages, asked):
        assert asked.path == "/sse?group=a&group=b&format=raw"
        await asked.events(
            "id: e:7,0\n" + joined(7, group="a"),
            "id: e:7,f:7\n" + joined(7, epoch="f", group="b"),
            "id: e:7,f:8\ndata: of b",
            "id: e:8,f:8\nevent: binary\ndata: AP8=",
        )
        assert await take(messages, 2) == [Received("of b", "b", 8), Received(b"\x00\xff", "a", 8)]
        await asked.cut()
        assert (await server.request()).path.endswith("&since=e:8&since=f:8")


@pytest.mark.parametrize(
    ("head", "cut"),
    [(CHUNKED, chunk), (HEAD + b"\r\n", bytes), (HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", bytes)],
)
@pytest.mark.parametrize("step", [1, 5, 1000])
async def test_any_framing_in_any_cut_is_the_same_stream(
    head: bytes, cut: Any, step: int, autojump_clock: Clock
) -> None:
    events = "".join(f"{event}\r\n\r\n" for event in (joined(0), message(1), ": c", message(2))).encode()
    pieces = b"".join(cut(events[at : at + 3]) for at in range(0, len(events), 3))
    async with serving() as server, connected(server, head=head) as (messages, asked):
        for at in range(0, len(pieces), step):
            await asked.send(pieces[at : at + step])
        assert await take(messages, 2) == [Received("x", "chat", 1), Received("x", "chat", 2)]


@pytest.mark.parametrize(("begin", "query"), [({"since": "e:1"}, "&since=e:1"), ({"last": 3}, "&last=3")])
async def test_it_begins_where_it_is_told_to(begin: dict[str, Any], query: str, autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, **begin) as (_, asked):
        assert asked.path == f"/sse?group=chat&format=json{query}"


async def test_a_consumer_that_takes_its_time_is_not_a_server_that_is_gone(autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with (
        serving(trio.testing.lockstep_stream_pair, max_waiting=2) as server,
        connected(server, on_lost=losses.append) as (messages, asked),
    ):
        server.nursery.start_soon(asked.events, joined(0), *map(message, range(1, 21)))
        await trio.sleep(3600)
        assert [item.offset for item in await take(messages, 20)] == list(range(1, 21))
    assert losses == []


async def test_a_message_over_the_limit_ends_the_messages(autojump_clock: Clock) -> None:
    for size, said in ((11, "a message of 11"), (10_000, "an event of more than")):
        async with serving(max_message=10) as server, connected(server, format="raw") as (messages, asked):
            await asked.events("id: e:1\ndata: " + "x" * 10, "id: e:2\ndata: " + "x" * size)
            assert (await anext(messages)).data == "x" * 10
            with pytest.raises(ListenerClosed, match=f"closed with 1009: {said}"):
                await anext(messages)
        assert server.dialled == 1


async def test_events_that_make_no_sense_end_the_messages(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events("data: x")
        with pytest.raises(UnexpectedFrame, match="is it a Triocast"):
            await anext(messages)
        await asked.left()
    assert server.dialled == 1


async def test_a_group_that_it_is_taken_out_of_is_told_and_may_begin_again(autojump_clock: Clock) -> None:
    left = 'event: leave\ndata: {"group":"chat","left":{"epoch":"e","offset":1}}'
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events(joined(0), message(1), left, joined(7), message(8))
        assert await take(messages, 3) == [
            Received("x", "chat", 1),
            Left("chat", "e", 1),
            Received("x", "chat", 8),
        ]
        await asked.events(left)
        await asked.cut()
        assert (await server.accept()).path.endswith("&since=e:8")
        assert await take(messages, 1) == [Left("chat", "e", 1)]
        assert messages.positions == {"chat": "e:8"}
