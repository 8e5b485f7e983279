"""`triocast listen` as a process, against a small WebSocket server."""

import base64
import json
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio_websocket
from tests.served import served

from triocast.settings import Settings

PATIENCE = 30


class Process:
    """The command, running; its two outputs read line by line."""

    def __init__(self, process):
        self.process = process
        self._rest = {"stdout": b"", "stderr": b""}

    async def line(self, name="stdout"):
        stream = getattr(self.process, name)
        while b"\n" not in self._rest[name]:
            data = await stream.receive_some()
            if not data:
                break
            self._rest[name] += data
        line, _, self._rest[name] = self._rest[name].partition(b"\n")
        return line.decode()

    async def end(self):
        """Wait for the end; return the exit code and what was left to read on standard error."""
        code = await self.process.wait()
        rest = self._rest["stderr"]
        async for data in self.process.stderr:
            rest += data
        assert b"Traceback" not in rest
        return code, rest.decode()


@asynccontextmanager
async def listening(handler, *arguments):
    """Serve `handler` and run the command against it."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None, disconnect_timeout=1)
        server = await nursery.start(serve)
        async with listening_at(server.port, *arguments) as process:
            yield process
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening_at(port, *arguments):
    """Run the command against what there is at `port`."""
    command = [sys.executable, "-m", "triocast", "listen", *arguments, "--url", f"http://127.0.0.1:{port}"]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield Process(process)
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


def frames_of(messages):
    """Return the frames of a server for messages (str, bytes, or dicts as they are) of the group chat."""
    for offset, message in enumerate(messages, 1):
        match message:
            case str():
                yield {"group": "chat", "offset": offset, "data": message}
            case bytes():
                yield {"group": "chat", "offset": offset, "b64data": base64.b64encode(message).decode()}
            case dict():
                yield message


def sending(*messages, close=None):
    """Return a handler that sends `messages`, then closes, or waits for the other side to leave."""

    async def handle(request):
        websocket = await request.accept()
        for frame in frames_of(messages):
            await websocket.send_message(json.dumps(frame))
        if close is not None:
            await websocket.aclose(*close)
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.get_message()

    return handle


async def test_messages_are_printed_one_a_line_as_they_come():
    async with listening(sending("one", "", b"\xf0\x9f\x8e\x84", "zwölf"), "chat") as command:
        assert (await command.line("stderr")).startswith("triocast: listening to chat at http://127.0.0.1:")
        assert [await command.line() for _ in range(4)] == ["one", "", "🎄", "zwölf"]


GAP = {"group": "a", "gap": {"from": 8, "to": 11, "count": 4, "reason": "slow"}}


async def test_json_shows_group_and_offset_of_every_message_and_every_gap_on_one_connection():
    shown = [
        {"group": "a", "offset": 7, "data": "text"},
        {"group": "b", "offset": 1, "b64data": "AA=="},
        GAP,
        {"group": "a", "offset": 12, "data": {"price": [1.5, None]}},
    ]
    paths = []

    async def handle(request):
        paths.append(request.path)
        joined = [{"group": group, "joined": {"epoch": "e", "offset": at}} for group, at in (("a", 6), ("b", 0))]
        await sending(*joined, *shown)(request)

    async with listening(handle, "a", "b", "a", "--json", "--count", "3", "--quiet") as command:
        assert [json.loads(await command.line()) for _ in range(4)] == shown
        assert await command.end() == (0, "")
    assert paths == ["/ws?group=a&group=b&format=json"]


async def test_json_keeps_numbers_as_they_were_written_and_a_message_on_one_line():
    async def handle(request):
        websocket = await request.accept()
        await websocket.send_message('{"group":"chat","offset":1,"data":{"price":\r\n 1.10}}')
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.get_message()

    for arguments, lines in (
        (["--json"], ['{"group":"chat","offset":1,"data":{"price":   1.10}}']),
        ([], ['{"price":\r', " 1.10}"]),
    ):
        async with listening(handle, "chat", "-n", "1", "-q", *arguments) as command:
            assert [await command.line() for _ in lines] == lines


async def test_gaps_are_said_on_standard_error():
    async with listening(sending("before", GAP, "after"), "a") as command:
        assert [await command.line(), await command.line()] == ["before", "after"]
        await command.line("stderr")
        assert await command.line("stderr") == "triocast: missed 4 of a, 8 to 11 (slow)"


async def test_what_last_values_supersede_is_not_called_missed():
    begin = {"group": "a", "joined": {"epoch": "e", "offset": 0}}
    gap = {"group": "a", "gap": {"from": 2, "to": 4, "count": 3, "reason": "superseded"}}
    values = ({"group": "a", "offset": 1, "data": "x"}, gap, {"group": "a", "offset": 5, "data": "y"})
    async with listening(sending(begin, *values), "a") as command:
        assert [await command.line(), await command.line()] == ["x", "y"]
        await command.line("stderr")
        said = await command.line("stderr")
        assert said == "triocast: passed over 3 of a, 2 to 4: newer ones of their keys follow"


BEGIN = {"group": "chat", "joined": {"epoch": "e", "offset": 0}}
AFRESH = {"group": "chat", "gap": {"from": 1, "to": 2, "count": 2, "reason": "epoch", "epochs": ["e", "f"]}}


async def test_a_lost_connection_goes_on_where_it_was_and_a_new_history_is_said():
    last = {"group": "chat", "offset": 3, "data": "after"}
    first = {"group": "chat", "offset": 1, "data": "before"}
    handlers = [sending(BEGIN, first, close=(1012, "restarting")), sending(AFRESH, last)]
    paths = []

    async def handle(request):
        paths.append(request.path)
        await handlers.pop(0)(request)

    async with listening(handle, "chat", "-n", "2") as command:
        assert [await command.line(), await command.line()] == ["before", "after"]
        code, err = await command.end()
    assert code == 0
    told = [line for line in err.splitlines() if "listening" not in line and "lost" not in line]
    afresh = "the history of chat began afresh (e, now f): nobody knows what was missed"
    assert told == [
        f"triocast: {afresh}; of the new one, 1 to 2 are missed",
        "triocast: to go on from here: triocast listen chat --since f:3",
    ]
    assert paths == ["/ws?group=chat&format=json", "/ws?group=chat&format=json&since=e:1"]


async def test_json_shows_a_new_history_with_both_epochs():
    last = {"group": "chat", "offset": 3, "data": "after"}
    async with listening(sending(AFRESH, last), "chat", "-n", "1", "-q", "--json", "--since", "e:1") as command:
        assert [json.loads(await command.line()) for _ in range(2)] == [AFRESH, last]
        assert await command.end() == (0, "")


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["--since", "e:5", "--since", "0"], "group=b&group=a&format=json&since=e:5&since=0"),
        (["--last", "3"], "group=b&group=a&format=json&last=3"),
    ],
)
async def test_where_to_begin_is_asked_for_in_the_order_of_the_groups(arguments, query):
    paths = []

    async def handle(request):
        paths.append(request.path)
        await sending(close=(1000, ""))(request)

    async with listening(handle, "b", "a", "-q", *arguments) as command:
        assert await command.end() == (0, "")
    assert paths == [f"/ws?{query}"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b", "--since", "0"], "2 GROUP and 1 --since: give one --since for each GROUP, in their order (0: "),
        (["a", "--since", "7"], "--since: '7' is no position (it has no ':'): it is EPOCH:OFFSET"),
        (["a", "--since", "0", "--last", "1"], "--since and --last can't both be"),
        (["a", "a", "--since", "0", "--since", "0"], "with --since every GROUP is named once"),
        (["a", "--last", "0"], "Invalid value for '--last'"),
    ],
)
async def test_a_beginning_that_makes_no_sense_is_named_before_anything_is_dialled(arguments, told):
    async with listening(sending(), *arguments) as command:
        code, err = await command.end()
    assert code == 2
    assert err.startswith(f"triocast: {told}")


async def test_a_server_that_does_not_speak_the_format_is_an_error():
    async def handle(request):
        websocket = await request.accept()
        await websocket.send_message("hello")
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.get_message()

    async with listening(handle, "chat", "-q") as command:
        code, err = await command.end()
    assert code == 1
    assert err.startswith("triocast: the server sent what is no message in JSON (")


async def test_count_ends_it_after_so_many_messages():
    async with listening(sending("one", "two", "three"), "chat", "-n", "2", "-q") as command:
        assert [await command.line() for _ in range(3)] == ["one", "two", ""]
        assert await command.end() == (0, "")


async def test_a_lost_connection_is_told_and_made_anew():
    handlers = [sending("before", close=(1012, "the server is restarting")), sending("after")]

    async def handle(request):
        await handlers.pop(0)(request)

    async with listening(handle, "chat") as command:
        assert await command.line() == "before"
        await command.line("stderr")
        told = await command.line("stderr")
        assert told.startswith("triocast: connection lost (closed with 1012: the server is restarting); back in ")
        assert await command.line() == "after"


@pytest.mark.parametrize(
    ("close", "arguments", "told"),
    [
        ((1008, "publishing is off here"), [], "triocast: closed with 1008: publishing is off here\n"),
        ((4500, "banned"), ["--json"], "triocast: closed with 4500: banned\n"),
        ((1012, "restarting"), ["--no-reconnect"], "triocast: closed with 1012: restarting\n"),
    ],
)
async def test_a_close_that_is_final_exits_with_1_and_its_reason(close, arguments, told):
    async with listening(sending("last", close=close), "chat", "--quiet", *arguments) as command:
        assert "last" in await command.line()
        assert await command.end() == (1, told)


async def test_a_normal_close_is_a_success():
    async with listening(sending(close=(1000, "")), "chat") as command:
        await command.line("stderr")
        assert await command.end() == (0, "triocast: the server closed the connection\n")


async def test_a_message_that_is_too_big_says_which_option_helps():
    async with listening(sending("x" * 11), "chat", "--max-message", "10", "-q") as command:
        code, err = await command.end()
    assert code == 1
    assert "closed with 1009" in err
    assert "--max-message" in err


async def test_a_refusal_exits_with_1_and_what_the_server_said():
    async def handle(request):
        await request.reject(403, body=b'{"error": {"code": "forbidden", "message": "not your group"}}')

    async with listening(handle, "chat") as command:
        assert await command.end() == (1, "triocast: refused with 403: not your group\n")


async def test_ctrl_c_says_goodbye_and_ends_it_quietly():
    codes = []
    closed = trio.Event()

    async def handle(request):
        websocket = await request.accept()
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.get_message()
        codes.append(websocket.closed.code)
        closed.set()

    async with listening(handle, "chat", "other", "--json") as command:
        await command.line("stderr")
        command.process.send_signal(signal.SIGINT)
        code, err = await command.end()
        assert (code, err.strip()) == (130, "")
        await closed.wait()
    assert codes == [1000]


async def test_ctrl_c_says_how_to_go_on():
    # The fake gives offsets by place: "one" is the third.
    shown = [{**BEGIN, "group": "other"}, {**BEGIN, "joined": {"epoch": "e", "offset": 2}}, "one", "two"]
    async with listening(sending(*shown), "chat", "other") as command:
        assert [await command.line() for _ in range(2)] == ["one", "two"]
        await command.line("stderr")
        command.process.send_signal(signal.SIGINT)
        code, err = await command.end()
    assert code == 130
    # The signal may find it before it has taken note of "two": that comes again then.
    said = r"triocast: to go on from here: triocast listen chat --since e:[34] other --since e:0\n.*"
    assert re.fullmatch(said, err, re.DOTALL)


async def test_a_reader_that_leaves_ends_it_quietly():
    go_on = trio.Event()

    async def handle(request):
        websocket = await request.accept()
        await go_on.wait()
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.send_message('{"group":"chat","offset":1,"data":"to nobody"}')
            await websocket.get_message()

    async with listening(handle, "chat") as command:
        await command.line("stderr")
        await command.process.stdout.aclose()
        go_on.set()
        assert await command.end() == (1, "")


# By server-sent events


async def test_by_events_messages_come_from_where_it_is_told_to_begin():
    async with served() as server:
        group = server.push.group("chat")
        for message in ("one", "two", b"\xf0\x9f\x8e\x84"):
            await group.send(message)
        epoch = (await group.info()).epoch
        for begin, shown in (
            (["--since", "0"], ["one", "two", "🎄"]),
            (["--since", f"{epoch}:1"], ["two", "🎄"]),
            (["--last", "1"], ["🎄"]),
        ):
            async with listening_at(server.port, "chat", "--sse", "-n", str(len(shown)), *begin) as command:
                assert [await command.line() for _ in shown] == shown
                code, err = await command.end()
            assert code == 0
            assert f"to go on from here: triocast listen chat --since {epoch}:3\n" in err


async def test_by_events_json_shows_groups_gaps_and_what_it_is_taken_out_of():
    async with served() as server:
        push = server.push
        for group, message in (("a", {"price": [1.5, None]}), ("b", b"\x00")):
            await push.group(group).send(message)
        epochs = {group: (await push.group(group).info()).epoch for group in "ab"}
        begin = ["--since", "0", "--since", "gone:7"]
        async with listening_at(server.port, "a", "b", "--json", "--sse", "-q", *begin) as command:
            shown = [json.loads(await command.line()) for _ in range(3)]
            gap = {"from": 1, "to": 0, "count": 0, "reason": "epoch", "epochs": ["gone", epochs["b"]]}
            assert [line for line in shown if line["group"] == "a"] == [
                {"group": "a", "offset": 1, "data": {"price": [1.5, None]}}
            ]
            assert [line for line in shown if line["group"] == "b"] == [
                {"group": "b", "gap": gap},
                {"group": "b", "offset": 1, "b64data": "AA=="},
            ]
            (connection,) = server.hub.roster
            await push.group("b").discard(connection)
            left = {"epoch": epochs["b"], "offset": 1}
            assert json.loads(await command.line()) == {"group": "b", "left": left}


async def test_who_is_taken_out_is_told_on_standard_error():
    async with served() as server:
        group = server.push.group("chat")
        async with listening_at(server.port, "chat", "--sse") as command:
            await command.line("stderr")
            await group.send("hello")
            assert await command.line() == "hello"
            (connection,) = server.hub.roster
            await group.discard(connection)
            epoch = (await group.info()).epoch
            assert await command.line("stderr") == f"triocast: the server took us out of chat, after {epoch}:1"


async def test_by_events_a_server_that_stops_and_a_refusal_are_said():
    async with served(Settings(max_groups_per_connection=1)) as server:
        async with listening_at(server.port, "chat", "--sse", "--no-reconnect") as command:
            await command.line("stderr")
            await server.hub.roster.drain()
            code, err = await command.end()
        assert (code, err.count("closed with 1012: the server is restarting")) == (1, 1)
    async with served(Settings(max_groups_per_connection=1)) as server:
        async with listening_at(server.port, "a", "b", "--sse") as command:
            code, err = await command.end()
        assert code == 1
        assert err.startswith("triocast: refused with 400: too many groups")
