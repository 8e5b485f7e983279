"""`triocast listen --presence`: who comes and goes, in words and as JSON."""

import json

import pytest
from tests.cli.listening import BEGIN, listening, sending

from triocast.cli.people import MAX_NAME, MAX_NAMES, People, name_of
from triocast.client import Departure, Member, Move, Presence

pytestmark = pytest.mark.once

RESET = {"group": "chat", "presence": "reset"}


def presence(**told):
    return {"group": "chat", "presence": told}


ANN = {"client": "c1", "user": None, "info": {"name": "Ann", "n": 1.5}, "claimed": True}
BOB = {"client": "c2", "user": "bob", "info": None}
STORY = (
    RESET,
    presence(joined=[ANN, BOB]),
    presence(left=[{"client": "c2", "reason": "removed"}], moved=[{"was": "c1", **ANN, "client": "c3"}]),
    presence(left=[{"client": "c3", "reason": "left"}, {"client": "c0", "reason": "lost"}]),
)


@pytest.mark.parametrize("arguments", [[], ["--quiet"]])
async def test_who_comes_and_goes_is_said_on_standard_error(arguments):
    async with listening(sending(BEGIN, *STORY, "x"), "chat", "--presence", "-n", "1", *arguments) as command:
        assert await command.line() == "x"
        code, err = await command.end()
    assert code == 0
    assert [line for line in err.splitlines() if not line.startswith("triocast: ")] == [
        '→ "Ann" joined',
        "→ bob joined",
        '· "Ann" has a new connection',
        "← bob left (removed)",
        '← "Ann" left',
        "← c0 left (lost)",
    ]


async def test_json_shows_the_objects_as_they_came_and_counts_them_as_no_messages():
    last = {"group": "chat", "offset": 5, "data": "x"}
    paths = []

    async def handle(request):
        paths.append(request.path)
        await sending(BEGIN, *STORY, last)(request)

    options = ["--presence", "--info", '{"name": "Ann"}', "--json", "-n", "1", "-q"]
    async with listening(handle, "chat", *options) as command:
        assert [json.loads(await command.line()) for _ in range(len(STORY))] == list(STORY)
        gap = {"group": "chat", "gap": {"from": 1, "to": 4, "count": 4, "reason": "untold"}}
        assert [json.loads(await command.line()) for _ in range(2)] == [gap, last]
        assert await command.end() == (0, "")
    assert paths == ["/ws?group=chat&format=json&presence=1&info=%7B%22name%22%3A%22Ann%22%7D"]


async def test_members_stay_on_one_line_of_json_and_numbers_as_they_were_written():
    told = '{"group":"chat","presence":{"joined":[{"client":"c","user":null,"info":{"n":\r\n 1.10}}]}}'

    async def handle(request):
        websocket = await request.accept()
        await websocket.send_message(told)
        await websocket.aclose(1000)

    async with listening(handle, "chat", "--presence", "--json", "-q") as command:
        assert await command.line() == told.replace("\r\n", "  ")


async def test_why_it_is_taken_out_is_said():
    left = {"group": "chat", "left": {"epoch": "e", "offset": 0, "code": 4001, "reason": "too loud"}}
    async with listening(sending(BEGIN, left, close=(1000, "")), "chat") as command:
        _, err = await command.end()
        assert "triocast: the server took us out of chat, after e:0 (4001: too loud)\n" in err
    async with listening(sending(BEGIN, left, close=(1000, "")), "chat", "--json") as command:
        assert json.loads(await command.line()) == left


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ("Ann", "--info: 'Ann' is no JSON object ("),
        ("7", "--info: '7' is no JSON object ("),
        (f'{{"n":"{"x" * 1017}"}}', "--info: info is 1025 bytes as JSON: a server takes 1024"),
    ],
)
async def test_info_that_can_not_be_is_named_before_anything_is_dialled(info, told):
    async with listening(sending(), "chat", "--info", info) as command:
        code, err = await command.end()
    assert code == 2
    assert err.startswith(f"triocast: {told}")


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (Member("c", "ann", '{"name":"Eve"}', claimed=True), "ann"),
        (Member("c", None, '{"name":"Ann"}'), "Ann"),
        (Member("c", None, '{"name":"Ann"}', claimed=True), '"Ann"'),
        (Member("c", None, '{"name":"\\u001b[2J\\nAnn"}', claimed=True), '"\ufffd[2J\ufffdAnn"'),
        (Member("c", "x" * 41), "x" * MAX_NAME + "…"),
        *[(Member("c", None, info), "c") for info in (None, "7", '{"name":7}', '{"name":""}', '{"n":1e999}')],
    ],
)
def test_a_member_is_called_by_what_is_known_of_it(member, name):
    assert name_of(member) == name


def test_with_several_groups_each_line_names_its_own():
    people = People(named=True)
    ann = Member("c", "ann")
    told = Presence("chat", (ann,), (Departure("d", "left"),), (Move("c", Member("d", "ann")),))
    assert list(people.lines(Presence("chat", left=(Departure("c", "moved"),)))) == []
    assert list(people.lines(told)) == ["→ ann joined chat", "· ann has a new connection in chat", "← ann left chat"]


def test_names_are_remembered_of_so_many_members_and_until_they_leave():
    people = People(named=False)
    everybody = [Member(f"c{number}", f"u{number}") for number in range(MAX_NAMES + 1)]
    assert len(list(people.lines(Presence("chat", tuple(everybody))))) == MAX_NAMES + 1
    gone = tuple(Departure(f"c{number}", "left") for number in (0, 1, 1))
    assert list(people.lines(Presence("chat", left=gone))) == ["← c0 left", "← u1 left", "← c1 left"]
