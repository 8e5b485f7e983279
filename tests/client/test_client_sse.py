"""The listener by server-sent events, against a server in memory that answers byte by byte, on a virtual clock."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from triocast.client import (
    BackoffSettings,
    CannotConnect,
    Gap,
    HandshakeRefused,
    Left,
    Listener,
    ListenerClosed,
    ListenerSettings,
    Lost,
    Received,
    UnexpectedFrame,
    open_listener,
)
from triocast.client.target import Target

URL = "http://server:8000"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FORBIDDEN = b'{"error": {"code": "forbidden", "message": "that is not for you"}}'

Clock = trio.testing.MockClock


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Asked:
    """A request, and the stream that it came on."""

    def __init__(self, stream: Any, head: str) -> None:
        self.stream = stream
        self.line, *headers = head.split("\r\n")
        self.path = self.line.split(" ")[1]
        self.headers = dict(header.split(": ", 1) for header in headers)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def events(self, *events: str) -> None:
        for event in events:
            await self.send(chunk(event.encode() + b"\n\n"))

    async def close(self, code: int, reason: str) -> None:
        await self.events(f'event: close\ndata: {{"code":{code},"reason":"{reason}"}}')
        with suppress(trio.BrokenResourceError):
            await self.send(b"0\r\n\r\n")

    async def cut(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def left(self) -> None:
        """Wait until the client has closed its side."""
        with suppress(trio.BrokenResourceError):
            assert await self.stream.receive_some() == b""


class Server:
    """Takes the connections that the listener dials."""

    def __init__(self, nursery: trio.Nursery, pair: Any, **settings: Any) -> None:
        self.nursery = nursery
        self.dialled = 0
        self._pair = pair
        self._settings = settings
        self._send, self._receive = trio.open_memory_channel[Any](10)

    def listen(self, groups: tuple[str, ...] = ("chat",), **kwargs: Any) -> Any:
        settings = ListenerSettings(dial=self.dial, random=random.Random(1), **self._settings)
        return open_listener(URL, groups, transport="sse", settings=settings, **kwargs)

    async def dial(self, target: Target, context: ssl.SSLContext | None) -> Any:
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        ours, theirs = self._pair()
        await self._send.send(theirs)
        return ours

    async def request(self) -> Asked:
        stream = await self._receive.receive()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some()
        return Asked(stream, head.decode().removesuffix("\r\n\r\n"))

    async def accept(self, head: bytes = CHUNKED) -> Asked:
        asked = await self.request()
        await asked.send(head)
        return asked

    def answer(self, *data: bytes, over: bool = False) -> None:
        """Answer the next request with some bytes, and leave it at that; or close the connection, too."""

        async def answer() -> None:
            asked = await self.request()
            for each in data:
                await asked.send(each)
            if over:
                await asked.cut()
            else:
                await trio.sleep_forever()

        self.nursery.start_soon(answer)


@asynccontextmanager
async def serving(pair: Any = trio.testing.memory_stream_pair, **settings: Any) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        yield Server(nursery, pair, **settings)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    server: Server, groups: tuple[str, ...] = ("chat",), head: bytes = CHUNKED, **kwargs: Any
) -> AsyncIterator[tuple[Listener, Asked]]:
    send, accepted = trio.open_memory_channel[Asked](1)

    async def accept() -> None:
        await send.send(await server.accept(head))

    server.nursery.start_soon(accept)
    async with server.listen(groups, **kwargs) as messages:
        yield messages, await accepted.receive()


async def take(messages: Listener, count: int) -> list[Any]:
    return [await anext(messages) for _ in range(count)]


def joined(offset: int, epoch: str = "e", group: str = "chat") -> str:
    return f'event: join\ndata: {{"group":"{group}","joined":{{"epoch":"{epoch}","offset":{offset}}}}}'


def message(offset: int, group: str = "chat") -> str:
    return f'data: {{"group":"{group}","offset":{offset},"data":"x"}}'


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


@pytest.mark.parametrize("ending", [b"0\r\n\r\n", b"", b"5\r\nda", b"nonsense\r\n"])
async def test_however_it_breaks_off_it_goes_on_where_it_was(ending: bytes, autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, asked):
        await asked.events(joined(2), message(3))
        await asked.send(ending)
        await asked.cut()
        assert await take(messages, 1) == [Received("x", "chat", 3)]
        back = await server.accept()
        assert back.path == "/sse?group=chat&format=json&since=e:3"
        await back.events(joined(3), message(4), message(6))
        assert await take(messages, 3) == [
            Received("x", "chat", 4),
            Gap("chat", 5, 5, "untold"),
            Received("x", "chat", 6),
        ]
    assert [lost.why for lost in losses] == ["closed with 1006: without a goodbye"]


@pytest.mark.parametrize(("begin", "query"), [({"since": "e:1"}, "&since=e:1"), ({"last": 3}, "&last=3")])
async def test_it_begins_where_it_is_told_to(begin: dict[str, Any], query: str, autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, **begin) as (_, asked):
        assert asked.path == f"/sse?group=chat&format=json{query}"


async def test_a_close_event_that_lets_it_come_back_is_a_loss(autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, asked):
        before = trio.current_time()
        await asked.close(1012, "restarting")
        back = await server.accept()
        (lost,) = losses
        assert lost.why == "closed with 1012: restarting"
        assert trio.current_time() == pytest.approx(before + lost.delay)
        await back.events(joined(0), message(1))
        assert await take(messages, 1) == [Received("x", "chat", 1)]


@pytest.mark.parametrize("code", [1008, 4500])
async def test_a_close_event_that_says_not_to_come_back_is_the_end(code: int, autojump_clock: Clock) -> None:
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events(joined(0), message(1))
        await asked.close(code, "you may not")
        assert await take(messages, 1) == [Received("x", "chat", 1)]
        with pytest.raises(ListenerClosed) as caught:
            await anext(messages)
        assert (caught.value.close_code, caught.value.reason) == (code, "you may not")
    assert server.dialled == 1


async def test_a_normal_close_event_ends_the_messages_calmly(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events(joined(0), message(1))
        await asked.close(1000, "")
        assert [item async for item in messages] == [Received("x", "chat", 1)]
    assert server.dialled == 1


async def test_without_reconnect_every_loss_is_the_end(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, reconnect=False) as (messages, asked):
        await asked.cut()
        with pytest.raises(ListenerClosed, match="closed with 1006"):
            await anext(messages)


@pytest.mark.parametrize(
    ("answer", "said", "temporary"),
    [
        (
            b"403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(FORBIDDEN), FORBIDDEN),
            "403: that is not for you",
            False,
        ),
        (b"404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "404: no events there", False),
        (b"302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n", "302: no events there", False),
        (b"204 No Content\r\n\r\n", "204: no events there", False),
        (b"503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "503: no events there", True),
        (b"429 Slow\r\nContent-Length: 9\r\n\r\n", "429: no events there", True),  # and no more comes
        (b"403 Forbidden\r\n\r\n" + b"x" * 200_000, "403: no events there", False),  # and it never ends
    ],
)
async def test_a_refusal_says_its_status_and_why(
    answer: bytes, said: str, temporary: bool, autojump_clock: Clock
) -> None:
    async with serving() as server:
        server.answer(b"HTTP/1.1 " + answer)
        with pytest.raises(HandshakeRefused, match=f"refused with {said}") as caught:
            async with server.listen():
                pytest.fail("there is no stream")
    assert caught.value.temporary is temporary


async def test_a_refusal_on_coming_back_is_final_unless_it_may_pass(autojump_clock: Clock) -> None:
    backoff = BackoffSettings(floor=1, first=1, cap=8)
    losses: list[Lost] = []
    async with (
        serving(backoff=backoff) as server,
        connected(server, on_lost=losses.append) as (messages, asked),
    ):
        await asked.cut()
        server.answer(b"HTTP/1.1 503 Leaving\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(HandshakeRefused, match="refused with 403"):
            await trio.testing.wait_all_tasks_blocked()
            server.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await anext(messages)
    assert [lost.why.split(":")[0] for lost in losses] == ["closed with 1006", "refused with 503"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "gives no answer that is HTTP"),
        (b"", "gives no answer that is HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "gives no answer that is HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "gives no answer that is HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", r"sends no events \(text/html\)"),
        (b"HTTP/1.1 200 OK\r\n\r\n", r"sends no events \(of no type\)"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n", "compresses what it sends, unasked"),
    ],
)
async def test_what_sends_no_events_is_told_from_a_server_that_does(
    answer: bytes, said: str, autojump_clock: Clock
) -> None:
    async with serving() as server:
        server.answer(answer, over=True)
        with pytest.raises(CannotConnect, match=said):
            async with server.listen():
                pytest.fail("there is no stream")
        assert trio.current_time() == 0


async def test_a_head_that_is_announced_may_follow(autojump_clock: Clock) -> None:
    head = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED
    async with serving() as server, connected(server, head=head) as (messages, asked):
        await asked.events(joined(0), message(1))
        assert await take(messages, 1) == [Received("x", "chat", 1)]


async def test_a_header_that_can_not_be_sent_is_said(autojump_clock: Clock) -> None:
    async with serving(headers={"X-Who": "me\r\nX-Else: you"}) as server:
        with pytest.raises(CannotConnect, match="cannot ask http://server:8000: Illegal header value"):
            async with server.listen():
                pytest.fail("there is no stream")


async def test_a_server_that_does_not_answer_is_given_up(autojump_clock: Clock) -> None:
    async with serving() as server:
        server.answer(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(CannotConnect, match="no answer in 10 s"):
            async with server.listen():
                pytest.fail("there is no stream")
        assert trio.current_time() == pytest.approx(10)


async def test_comments_are_signs_of_life_and_without_any_the_server_is_gone(autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving(max_silence=30) as server, connected(server, on_lost=losses.append) as (_, asked):
        for _beat in range(100):
            await trio.sleep(29)
            await asked.send(chunk(b": \n\n"))
        assert losses == []
        silent = trio.current_time()
        back = server.accept()
        await back
        (lost,) = losses
        assert lost.why == "closed with 1006: no sign of life in 30 s"
        assert trio.current_time() == pytest.approx(silent + 30 + lost.delay)


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


async def test_leaving_closes_the_socket_and_leaves_no_task_behind(autojump_clock: Clock) -> None:
    async with serving(max_waiting=1) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(server) as (_, asked):
            await asked.events(joined(0), *map(message, range(1, 51)))  # nobody reads them
        await asked.left()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() == 0


async def test_cancelled_it_closes_the_socket_at_once(autojump_clock: Clock) -> None:
    async with serving() as server:
        with trio.move_on_after(5):
            async with connected(server) as (messages, asked):
                await anext(messages)
        await asked.left()
        assert trio.current_time() == pytest.approx(5)
