"""The listener against a WebSocket server in memory, on a virtual clock."""

import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
import trio_websocket

from triocast.client import (
    BackoffSettings,
    CannotConnect,
    Gap,
    HandshakeRefused,
    InvalidURL,
    ListenerClosed,
    ListenerSettings,
    Received,
    UnexpectedFrame,
    open_listener,
)
from triocast.errors import InvalidGroupName, InvalidPosition

URL = "http://server:8000"
FORBIDDEN = b'{"error": {"code": "forbidden", "message": "that is not for you"}}'


@dataclass
class Server:
    """Takes the connections that the listener dials; what happens on them is up to the test."""

    nursery: trio.Nursery
    pair: object = trio.testing.memory_stream_pair
    settings: dict = field(default_factory=dict)
    dialled: int = 0

    def __post_init__(self):
        self._send, self._receive = trio.open_memory_channel(10)

    def listen(self, groups=("chat",), **kwargs):
        settings = ListenerSettings(dial=self.dial, random=random.Random(1), **self.settings)
        return open_listener(URL, groups, settings=settings, **{"format": "raw", **kwargs})

    async def dial(self, target, context):
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        ours, theirs = self.pair()
        await self._send.send(theirs)
        return ours

    async def stream(self):
        return await self._receive.receive()

    async def request(self):
        return await trio_websocket.wrap_server_stream(self.nursery, await self.stream())

    async def accept(self):
        return await (await self.request()).accept()

    async def reject(self, status, body=b""):
        await (await self.request()).reject(status, body=body)

    def soon(self, function, *args):
        self.nursery.start_soon(function, *args)


@asynccontextmanager
async def serving(**kwargs):
    async with trio.open_nursery() as nursery:
        yield Server(nursery, **kwargs)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server, groups=("chat",), **kwargs):
    """Listen, and give the server's side of the first connection too."""
    send, accepted = trio.open_memory_channel(1)

    async def accept():
        await send.send(await server.accept())

    server.soon(accept)
    async with server.listen(groups, **kwargs) as messages:
        yield messages, await accepted.receive()


async def gather(messages):
    return [received.data async for received in messages]


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


def message(offset, data='"x"', group="chat"):
    return f'{{"group":"{group}","offset":{offset},"data":{data}}}'


def joined(offset, epoch="e", group="chat"):
    return f'{{"group":"{group}","joined":{{"epoch":"{epoch}","offset":{offset},"policy":"latest","client":"c"}}}}'


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


async def accept_at(server, position, *, lose=True):
    """Take a connection, say where its streams begin, and lose it."""
    websocket = await (await server.request()).accept(extra_headers=[(b"Triocast-Position", position.encode())])
    if lose:
        await websocket._stream.aclose()
    return websocket


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


async def test_a_lost_connection_is_made_anew_after_a_wait(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await websocket.send_message("before")
        assert (await anext(messages)).data == "before"
        before = trio.current_time()
        server.soon(websocket.aclose, 1012, "the server is restarting")
        again = await server.accept()
        (lost,) = losses
        assert lost.why == "closed with 1012: the server is restarting"
        assert 0.1 <= lost.delay <= 1
        assert trio.current_time() == pytest.approx(before + lost.delay)
        await again.send_message("after")
        assert (await anext(messages)).data == "after"


async def test_a_connection_that_breaks_off_is_a_loss_too(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await websocket._stream.aclose()
        again = await server.accept()
        await again.send_message("after")
        assert (await anext(messages)).data == "after"
    assert [lost.why for lost in losses] == ["closed with 1006: without a goodbye"]


async def test_waits_grow_while_the_server_stays_away_and_end_when_it_is_back(autojump_clock):
    losses = []
    backoff = BackoffSettings(floor=1, first=1, cap=8)
    async with (
        serving(settings={"backoff": backoff}) as server,
        connected(server, on_lost=losses.append) as (messages, websocket),
    ):
        server.soon(websocket.aclose, 1012, "restarting")
        for _ in range(5):
            await server.reject(503, b'{"error": {"code": "shutting_down", "message": "leaving"}}')
        again = await server.accept()
        await again.send_message("back")
        assert (await anext(messages)).data == "back"
    assert [lost.lasted for lost in losses] == [0, None, None, None, None, None]
    assert [lost.why for lost in losses[1:]] == ["refused with 503: leaving"] * 5
    assert all(1 <= lost.delay <= ceiling for lost, ceiling in zip(losses, (1, 2, 4, 8, 8, 8), strict=True))


@pytest.mark.parametrize("code", [1008, 4500])
async def test_a_close_that_says_not_to_come_back_ends_the_messages_with_its_reason(code, autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket.send_message("last")
        server.soon(websocket.aclose, code, "you may not")
        assert (await anext(messages)).data == "last"
        with pytest.raises(ListenerClosed) as caught:
            await anext(messages)
        assert (caught.value.close_code, caught.value.reason) == (code, "you may not")
        assert "ended" in repr(messages)
    assert server.dialled == 1


async def test_a_normal_close_ends_the_messages_calmly(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket.send_message("last")
        server.soon(websocket.aclose, 1000)
        assert await gather(messages) == ["last"]
    assert server.dialled == 1


async def test_without_reconnect_every_loss_is_the_end(autojump_clock):
    async with serving() as server, connected(server, reconnect=False) as (messages, websocket):
        server.soon(websocket.aclose, 1012, "restarting")
        with pytest.raises(ListenerClosed, match="closed with 1012: restarting"):
            await anext(messages)


async def test_a_refused_handshake_raises_what_the_server_said(autojump_clock):
    async with serving() as server:
        server.soon(server.reject, 403, FORBIDDEN)
        with pytest.raises(HandshakeRefused, match="refused with 403: that is not for you") as caught:
            async with server.listen():
                pytest.fail("there is no connection")
    assert (caught.value.http_status, caught.value.temporary) == (403, False)


async def test_a_refusal_without_triocasts_message_says_its_status(autojump_clock):
    async with serving() as server:
        server.soon(server.reject, 404)
        with pytest.raises(HandshakeRefused, match="refused with 404: no WebSocket there"):
            async with server.listen():
                pytest.fail("there is no connection")


async def test_a_refusal_on_coming_back_is_final(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket._stream.aclose()
        server.soon(server.reject, 403, FORBIDDEN)
        with pytest.raises(HandshakeRefused, match="that is not for you"):
            await anext(messages)


async def test_a_server_that_cannot_be_dialled_is_an_error_at_once(autojump_clock):
    async def dial(target, context):
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(111, "error connecting to (...): Connection refused")

    with pytest.raises(CannotConnect, match=r"^cannot reach http://server:8000: connection refused$") as caught:
        async with open_listener(URL, ["chat"], settings=ListenerSettings(dial=dial)):
            pytest.fail("there is no connection")
    assert caught.value.nobody_there


async def test_a_server_that_does_not_answer_the_handshake_is_given_up(autojump_clock):
    async with serving() as server:
        with pytest.raises(CannotConnect, match="no answer in 10 s"):
            async with server.listen():
                pytest.fail("there is no connection")
        assert trio.current_time() == pytest.approx(10)


async def test_dialling_and_handshake_share_one_deadline(autojump_clock):
    async def dial(target, context):
        await trio.sleep_forever()

    with pytest.raises(CannotConnect, match="no answer in 3 s"):
        async with open_listener(URL, ["chat"], settings=ListenerSettings(dial=dial, connect_timeout=3)):
            pytest.fail("there is no connection")
    assert trio.current_time() == pytest.approx(3)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
        ),
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000,
    ],
)
async def test_what_does_not_speak_websocket_is_told_from_a_server_that_does(answer, autojump_clock):
    async def answer_with_that():
        stream = await server.stream()
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.send_eof() if not answer else await trio.sleep_forever()

    async with serving() as server:
        server.soon(answer_with_that)
        with pytest.raises(CannotConnect, match="does not speak WebSocket"):
            async with server.listen():
                pytest.fail("there is no connection")
        assert trio.current_time() == 0


async def test_frames_that_are_none_end_the_connection_and_it_is_made_anew(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket._stream.send_all(b"\xff" * 20)
        again = await server.accept()
        await again.send_message("after")
        assert (await anext(messages)).data == "after"


async def test_a_message_over_the_limit_ends_the_messages(autojump_clock):
    async with serving(settings={"max_message": 10}) as server, connected(server) as (messages, websocket):
        await websocket.send_message("x" * 10)
        assert (await anext(messages)).data == "x" * 10
        await websocket.send_message("x" * 11)
        with pytest.raises(ListenerClosed, match="closed with 1009"):
            await anext(messages)


async def test_a_server_that_answers_pings_is_kept_however_silent(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await trio.sleep(86_400)
        await websocket.send_message("good morning")
        assert (await anext(messages)).data == "good morning"
    assert losses == []


async def test_a_server_that_is_gone_without_a_word_is_noticed(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (_, websocket):
        silent = trio.current_time()
        # From here on nobody reads at the other end, but nothing is closed either.
        websocket._reader_running = False
        await websocket.send_message("the last that is heard of it")
        await server.accept()
        assert trio.current_time() - silent == pytest.approx(30, abs=1)
    assert [lost.why for lost in losses] == ["closed with 1006: no sign of life in 10 s"]


async def test_a_consumer_that_takes_its_time_is_not_a_server_that_is_gone(autojump_clock):
    losses = []
    async with (
        serving(pair=trio.testing.lockstep_stream_pair, settings={"max_waiting": 2}) as server,
        connected(server, on_lost=losses.append) as (messages, websocket),
    ):

        async def send_all():
            for number in range(20):
                await websocket.send_message(str(number))

        server.soon(send_all)
        await trio.sleep(3600)
        assert [(await anext(messages)).data for _ in range(20)] == [str(number) for number in range(20)]
    assert losses == []


async def test_a_consumer_that_does_not_read_holds_the_server_back(autojump_clock):
    sent = []

    async def send_all(websocket):
        with suppress(trio_websocket.ConnectionClosed):
            for number in range(100):
                await websocket.send_message(str(number))
                sent.append(number)

    async with (
        serving(pair=trio.testing.lockstep_stream_pair, settings={"max_waiting": 5}) as server,
        connected(server) as (_, websocket),
    ):
        server.soon(send_all, websocket)
        await trio.testing.wait_all_tasks_blocked()
        # Five wait, one is on its way into the queue, one is in the hands of the reader.
        assert len(sent) == 7


async def test_leaving_says_goodbye_and_leaves_no_task_behind(autojump_clock):
    async with serving() as server:
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(server) as (_, websocket):
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert websocket.closed.code == 1000
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() == 0


async def test_leaving_waits_no_longer_than_the_close_timeout(autojump_clock):
    async with serving() as server:
        async with connected(server) as (_, websocket):
            websocket._reader_running = False
            await websocket.send_message("now the server's reader ends at the next frame")
        assert trio.current_time() == pytest.approx(2)


async def test_leaving_with_messages_unread_takes_no_time(autojump_clock):
    async with serving(settings={"max_waiting": 1}) as server:
        async with connected(server) as (_, websocket):
            for _ in range(50):
                await websocket.send_message("unread")
        assert trio.current_time() == 0


async def test_cancelled_it_closes_the_socket_at_once(autojump_clock):
    async with serving() as server:
        with trio.move_on_after(5):
            async with connected(server) as (messages, websocket):
                await anext(messages)
        assert trio.current_time() == pytest.approx(5)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await websocket.get_message()


async def test_leaving_between_two_connections_takes_no_time(autojump_clock):
    lost = trio.Event()
    async with serving() as server:
        async with connected(server, on_lost=lambda _: lost.set()) as (_, websocket):
            await websocket._stream.aclose()
            await lost.wait()
        assert trio.current_time() == 0


async def test_an_exception_in_the_block_comes_out_as_it_is(autojump_clock):
    async with serving() as server:
        error = KeyError("mine")
        caught = None
        try:
            async with connected(server) as (_, websocket):
                raise error
        except KeyError as exception:
            caught = exception
        assert caught is error
        await trio.testing.wait_all_tasks_blocked()
        assert websocket.closed.code == 1000


async def test_mistakes_are_named_before_anything_is_dialled():
    for error, url, groups, begin in (
        (InvalidURL, "nowhere", ["a"], {}),
        (InvalidGroupName, URL, ["a b"], {}),
        (ValueError, URL, [], {}),
        (ValueError, URL, "chat", {}),
        (InvalidPosition, URL, ["a"], {"since": "7"}),
        (ValueError, URL, ["a", "b"], {"since": "e:7"}),
        (ValueError, URL, ["a", "b"], {"since": {"a": "e:7"}}),
        (ValueError, URL, ["a"], {"since": "0", "last": 1}),
        (ValueError, URL, ["a"], {"last": 0}),
    ):
        with pytest.raises(error):
            async with open_listener(url, groups, **begin):
                pytest.fail("there is no connection")


async def test_its_repr_tells_its_state(autojump_clock):
    async with serving() as server, connected(server, ["a", "b"]) as (messages, _):
        assert repr(messages) == "<Listener to a, b at http://server:8000, connected>"
