"""How `triocast listen` ends: by its server, by its options, by a signal, by nobody reading it."""

import re
import signal
from contextlib import suppress

import pytest
import trio
import trio_websocket
from tests.cli.listening import BEGIN, listening, sending


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
