"""The page about who is there is true: its exchanges are what comes, its list keeps right, its hooks are called."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from quart import websocket
from quart_trio import QuartTrio

from tests.e2e.processes import tool
from tests.walkthrough import block
from triocast import Settings, Triocast
from triocast.core.presence import Reason
from triocast.engines.memory import MemoryEngine
from triocast.testing import World, simulate
from triocast.web import routes

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/presence.md").read_text()
PEOPLE: Mapping[str, dict[str, Any]] = {
    "4kTq": {"user": "ann", "info": {"name": "Ann"}},
    "9yWm": {"info": {"name": "Me"}, "claimed": True},
    "e0Zb": {"user": "bob"},
}


def application() -> QuartTrio:
    """An application to which people come as they are called."""
    app = QuartTrio(__name__)
    settings = Settings()
    push = Triocast(app, settings, engine=MemoryEngine(settings, new_epoch=lambda: "f71eb2d3"), harden=False)

    @app.websocket("/as/<client>")
    async def by_name(client: str) -> None:
        async with push.connect("chat", **PEOPLE[client]) as connection:
            await connection.receive()

    app.register_blueprint(routes(push))
    return app


def name_in_order(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the connections that come called this."""
    coming = iter(names)
    monkeypatch.setattr("triocast.connection.secrets.token_urlsafe", lambda _: next(coming))


async def test_the_members_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    name_in_order(monkeypatch, *PEOPLE)
    exchanges = re.findall(r"^GET (\S+)\n(.+)$", block(TEXT, "snippet: members"), re.MULTILINE)
    assert len(exchanges) == 2
    async with simulate(application()) as world:
        for name in PEOPLE:
            await world.connect(f"/as/{name}")
        for path, answer in exchanges:
            assert await (await world.http.get(path)).get_data(as_text=True) == answer


async def test_a_watcher_is_told_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    name_in_order(monkeypatch, "9yWm", "4kTq")
    path, *lines = block(TEXT, "snippet: told").splitlines()
    async with simulate(application()) as world:
        watcher = await world.connect(path)
        assert [await watcher.receive() for _ in range(2)] == lines[:2]
        await trio.sleep(1)
        ann = await world.connect("/as/4kTq")
        assert await watcher.receive() == lines[2]
        await ann.close()
        assert await watcher.receive() == lines[3]


DRIVER = """
const lines = require("fs").readFileSync(0, "utf8").trim().split("\\n").map(line => JSON.parse(line))
const answers = lines[0], steps = lines.slice(1)
let shown = [], pending = []
const ask = after => new Promise(resolve => pending.push(() => resolve(answers[after])))
const told = memberList(ask, members => shown.push([...members.keys()].sort()))
const turn = () => new Promise(resolve => setImmediate(resolve))
;(async () => {
  for (const step of steps) {
    if (step === "answer") pending.shift()()
    else told(step)
    await turn()
  }
  console.log(JSON.stringify(shown))
})()
"""


def shown_by_the_list(*steps: object) -> list[list[str]]:
    """Return what the page's list shows, one after the other, while it is told `steps`, and answered."""
    answers = {
        "": {"members": [{"client": "a"}, {"client": "b"}], "next": "b"},
        "b": {"members": [{"client": "c"}], "next": None},
    }
    given = "\n".join(msgspec.json.encode(each).decode() for each in (answers, *steps))
    source = block(TEXT, "snippet: list") + DRIVER
    done = subprocess.run(
        [tool("node"), "-e", source], input=given, capture_output=True, text=True, check=True, timeout=60
    )
    shown: list[list[str]] = msgspec.json.decode(done.stdout)
    return shown


def test_the_list_applies_what_it_is_told() -> None:
    assert shown_by_the_list(
        "reset",
        "answer",
        {"left": [{"client": "a", "reason": "left"}]},  # before the answer is whole
        "answer",
        {"joined": [{"client": "d"}], "left": [{"client": "x", "reason": "lost"}]},
        {"moved": [{"was": "b", "client": "e"}]},
    ) == [["b", "c"], ["b", "c", "d"], ["c", "d", "e"]]


def test_a_list_that_is_told_to_ask_again_shows_nothing_of_the_old_answer() -> None:
    assert shown_by_the_list(
        "reset",
        "answer",
        {"joined": [{"client": "z"}]},
        "reset",
        "answer",  # of the first
        "answer",
        {"joined": [{"client": "y"}]},
        "answer",
    ) == [["a", "b", "c", "y"]]


def test_the_list_is_short() -> None:
    assert len(block(TEXT, "snippet: list").splitlines()) <= 22


async def test_the_hooks_are_called(autojump_clock: trio.testing.MockClock) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(source, "presence.md", "exec"), names)
    app: QuartTrio = names["app"]
    push: Triocast = names["push"]

    @app.websocket("/ws/<group>")
    async def ws(group: str) -> None:
        async with push.connect(group, user=websocket.args.get("user")) as connection:
            await connection.receive()

    world: World
    async with simulate(app) as world:
        lobby = await world.connect("/ws/lobby")
        ann = await world.connect("/ws/chat?user=ann")
        assert [msgspec.json.decode(await lobby.receive()) for _ in range(2)] == [{"open": "lobby"}, {"open": "chat"}]
        assert names["last_seen"] == {}
        await ann.close()
        await trio.sleep(1)
        assert list(names["last_seen"]) == ["ann"]


def test_every_reason_is_explained() -> None:
    assert all(f"| `{reason.value}` |" in TEXT for reason in Reason)
