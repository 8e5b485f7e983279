"""`triocast listen` from a position on, over a lost connection, and over a history that began afresh."""

import json

import pytest
from tests.cli.listening import BEGIN, listening, sending

pytestmark = pytest.mark.once

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
