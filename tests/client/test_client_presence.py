"""What a listener is told of members and of messages that are not for it, by WebSocket and by server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from tests.client import event_server, websocket_server

from triocast.client import (
    Departure,
    Gap,
    Left,
    Listener,
    ListenerClosed,
    Member,
    Members,
    Move,
    Presence,
    PresenceReset,
    Received,
    open_listener,
)

Clock = trio.testing.MockClock
RESET = '{"group":"chat","presence":"reset"}'
JOINED = '{"group":"chat","joined":{"epoch":"e","offset":0}}'
CHANGES = (
    '{"group":"chat","presence":{"joined":[{"client":"a","user":"ann","info":{"name": "Ann"},"since":7},'
    '{"client":"b","user":null,"info":{"n":1.10},"claimed":true}],"left":[{"client":"x","reason":"lost","at":1}],'
    '"moved":[{"was":"y","client":"z","user":null,"info":null}],"away":[{"client":"a"}]}}'
)
ANN, BOB, ZOE = Member("a", "ann", '{"name": "Ann"}'), Member("b", None, '{"n":1.10}', claimed=True), Member("z")
TOLD = Presence("chat", (ANN, BOB), (Departure("x", "lost"),), (Move("y", ZOE),))
NEWS = {"joined": "join", "left": "leave", "gap": "gap", "delivered": "delivered", "presence": "presence"}

Send = Callable[[str], Awaitable[None]]


def as_event(frame: str) -> str:
    """Return the event by which a server says what this frame does."""
    kind = next((kind for kind in NEWS if f'"{kind}":' in frame.partition(",")[2][:20]), None)
    return f"data: {frame}" if kind is None else f"event: {NEWS[kind]}\ndata: {frame}"


@asynccontextmanager
async def by_websocket(**kwargs: Any) -> AsyncIterator[tuple[Listener, str, Send, Callable[[], Awaitable[str]]]]:
    async with websocket_server.serving() as server:
        async with websocket_server.connected(server, format="json", **kwargs) as (messages, websocket):

            async def lose() -> str:
                await websocket._stream.aclose()
                return str((await server.request()).path)

            yield messages, websocket.path, websocket.send_message, lose


@asynccontextmanager
async def by_events(**kwargs: Any) -> AsyncIterator[tuple[Listener, str, Send, Callable[[], Awaitable[str]]]]:
    async with event_server.serving() as server, event_server.connected(server, **kwargs) as (messages, asked):

        async def send(frame: str) -> None:
            await asked.events(as_event(frame))

        async def lose() -> str:
            await asked.cut()
            return (await server.request()).path

        yield messages, asked.path, send, lose


BOTH = pytest.mark.parametrize("connected", [by_websocket, by_events])


@BOTH
async def test_who_asks_is_told_who_comes_and_goes(connected: Any, autojump_clock: Clock) -> None:
    async with connected(presence=True, info={"name": "Ann & co"}) as (messages, path, send, lose):
        asked = "?group=chat&format=json&presence=1&info=%7B%22name%22%3A%22Ann%20%26%20co%22%7D"
        assert path.endswith(asked)
        for frame in (JOINED, RESET, CHANGES, '{"group":"chat","offset":1,"data":"x"}', RESET):
            await send(frame)
        assert [await anext(messages) for _ in range(4)] == [
            PresenceReset("chat"),
            TOLD,
            Received("x", "chat", 1),
            PresenceReset("chat"),
        ]
        assert messages.positions == {"chat": "e:1"}
        assert (await lose()).endswith(f"{asked}&since=e:1")


@BOTH
async def test_what_a_newer_server_says_of_members_is_passed_over(connected: Any, autojump_clock: Clock) -> None:
    async with connected(presence=True) as (messages, _, send, _):
        for told in ('"full"', "{}", '{"away":[]}', "null"):
            await send(f'{{"group":"chat","presence":{told}}}')
        await send(RESET)
        assert await anext(messages) == PresenceReset("chat")


@BOTH
async def test_a_message_that_is_not_for_us_moves_the_position_and_gives_nothing(
    connected: Any, autojump_clock: Clock
) -> None:
    async with connected() as (messages, _, send, lose):
        for frame in (
            JOINED,
            '{"group":"chat","delivered":{"epoch":"e","offset":1,"by":"x"}}',
            '{"group":"chat","offset":2,"data":"x"}',
            '{"group":"chat","delivered":{"epoch":"e","offset":4}}',
        ):
            await send(frame)
        assert await anext(messages) == Received("x", "chat", 2)
        assert await anext(messages) == Gap("chat", 3, 3, "untold")
        assert messages.positions == {"chat": "e:3"}
        with trio.move_on_after(1):
            await anext(messages)
        assert messages.positions == {"chat": "e:4"}
        assert (await lose()).endswith("&since=e:4")


@BOTH
async def test_why_it_is_taken_out_of_a_group_may_be_told(connected: Any, autojump_clock: Clock) -> None:
    async with connected() as (messages, _, send, _):
        for more in ("", ',"code":3503,"reason":"disconnected by the server"', ',"code":null,"reason":null'):
            await send(f'{{"group":"chat","left":{{"epoch":"e","offset":0{more}}}}}')
        assert [await anext(messages) for _ in range(3)] == [
            Left("chat", "e", 0),
            Left("chat", "e", 0, 3503, "disconnected by the server"),
            Left("chat", "e", 0),
        ]


async def test_the_news_of_many_members_fit_beside_messages_that_must_be_small(autojump_clock: Clock) -> None:
    many = ",".join(f'{{"client":"{number:016}"}}' for number in range(3000))
    frame = f'{{"group":"chat","presence":{{"joined":[{many}]}}}}'
    assert len(frame) > 64 * 1024
    async with (
        websocket_server.serving(settings={"max_message": 10}) as server,
        websocket_server.connected(server, format="json", presence=True) as (messages, websocket),
    ):
        await websocket.send_message(frame)
        assert len((await anext(messages)).joined) == 3000
        await websocket.send_message('{"group":"chat","offset":1,"data":"more than ten"}')
        with pytest.raises(ListenerClosed, match="closed with 1009"):
            await anext(messages)


async def test_payloads_over_events_have_room_for_it_too(autojump_clock: Clock) -> None:
    async with (
        event_server.serving() as server,
        event_server.connected(server, format="raw", presence=True) as (messages, asked),
    ):
        assert asked.path == "/sse?group=chat&format=raw&presence=1"
        await asked.events("id: e:0\n" + as_event(JOINED), as_event(CHANGES), "id: e:1\ndata: x")
        assert await event_server.take(messages, 2) == [TOLD, Received("x", "chat", 1)]


async def test_info_goes_with_payloads_and_without_presence(autojump_clock: Clock) -> None:
    async with websocket_server.serving() as server:
        async with websocket_server.connected(server, format="raw", info={"n": 7}) as (_, websocket):
            assert websocket.path == "/ws?group=chat&format=raw&strict=1&info=%7B%22n%22%3A7%7D"


async def test_what_can_not_be_asked_for_is_named_before_anything_is_dialled() -> None:
    asked: tuple[tuple[type[Exception], str, Any], ...] = (
        (ValueError, "payloads over WebSocket have no room for presence", {"presence": True, "format": "raw"}),
        (ValueError, "info is 1025 bytes as JSON: a server takes 1024", {"info": {"n": "x" * 1017}}),
        (TypeError, "info is a JSON object", {"info": "Ann"}),
        (TypeError, "unsupported", {"info": {"n": object()}}),
    )
    for error, said, wanted in asked:
        with pytest.raises(error, match=said):
            async with open_listener("http://nobody.invalid", ["chat"], **wanted):
                pytest.fail("there is no connection")


@BOTH
async def test_a_list_of_members_is_kept_by_it(connected: Any, autojump_clock: Clock) -> None:
    answers = iter(
        [
            '{"group":"chat","members":[{"client":"x"}],"next":"x"}',
            '{"group":"chat","members":[{"client":"y"}],"next":null}',
        ]
    )
    asked = []

    async def get(path: str) -> str:
        asked.append(path)
        await trio.lowlevel.checkpoint()
        return next(answers)

    async with connected(presence=True) as (messages, _, send, _):
        members = Members("chat")
        for frame in (JOINED, RESET, CHANGES, '{"group":"chat","offset":1,"data":"the end"}'):
            await send(frame)
        async for item in messages:
            members.apply(item)
            if isinstance(item, PresenceReset):
                assert await members.ask(get)
                assert set(members) == {"x", "y"}
            elif isinstance(item, Received):
                break
    assert asked == ["/members/chat?limit=1000", "/members/chat?limit=1000&after=x"]
    assert dict(members) == {"a": ANN, "b": BOB, "z": ZOE}
