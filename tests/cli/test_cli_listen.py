"""What `triocast listen` prints, against a small WebSocket server."""

import json
from contextlib import suppress

import trio_websocket
from tests.cli.listening import listening, sending


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
