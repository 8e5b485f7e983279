"""The documentation is true: its commands are typed, its snippets run, its tables are the code's."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from tests.docs_settings import page
from tests.e2e.processes import tool
from tests.walkthrough import README, block, steps, walk
from triocast import Draft, GroupSettings, Kind, Settings, Triocast
from triocast.engines.memory import MemoryEngine
from triocast.errors import CLOSES
from triocast.settings import load
from triocast.testing import Closed, run_seeded, simulate
from triocast.web import create_app, routes

ROOT = README.parent
DOCS = ROOT / "docs"


@pytest.mark.usefixtures("wscat", "http", "curl")
async def test_the_walkthrough_prints_what_the_readme_shows() -> None:
    plan = steps(README.read_text())
    assert [step.how for step in plan] == ["serve", "background", "background"] + ["foreground"] * 5
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await walk(plan, port, tool)


def test_the_readmes_library_snippet_does_what_the_article_asked_for() -> None:
    names: dict[str, object] = {"__name__": "snippet"}
    source = block(README.read_text(), "snippet: library")
    assert len([line for line in source.splitlines() if line.strip()]) <= 15
    exec(compile(source, "README.md", "exec"), names)

    async def use() -> None:
        async with simulate(names["app"]) as world:  # type: ignore[arg-type]
            one, two = await world.connect("/ws"), await world.connect("/ws")
            response = await world.http.get("/sample/publish?msg=hello")
            assert await response.get_data() == b"Published!"
            assert [await one.receive(), await two.receive()] == ["hello", "hello"]
            await one.send("from one")
            assert [await one.receive(), await two.receive()] == ["from one", "from one"]

    run_seeded(use, seed=1)


def test_the_readmes_settings_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "triocast.toml"
    path.write_text(block(README.read_text(), "snippet: toml"))
    settings = load({}, {}, str(path)).settings
    assert settings.for_group("chat:1").client_publish
    assert not settings.for_group("docs:1").client_publish


def test_the_library_page_runs_from_top_to_bottom() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {"__name__": "snippet"}
    for number, source in enumerate(blocks):
        exec(compile(source, f"library.md block {number}", "exec"), names)

    async def read_history() -> None:
        app: Any = names["app"]
        everything_after: Any = names["everything_after"]
        async with simulate(app):
            positions = [await app.extensions["triocast"].group("room:b").send(number) for number in range(250)]
            found = await everything_after("b", f"{positions[0].epoch}:{positions[0].offset}")
            assert found == [b"149 are no longer kept", *(b"%d" % number for number in range(150, 250))]

    async def part() -> None:
        async with simulate(names["app"]) as world:  # type: ignore[arg-type]
            push: Triocast = world.app.extensions["triocast"]
            client = await world.connect("/ws/b")
            await trio.testing.wait_all_tasks_blocked()
            (connection,) = push.hub.roster
            for answer in ({"removed": True}, {"removed": False}):
                response = await world.http.post(f"/moderation/b/{connection.id}")
                assert await response.get_json() == answer
            assert await client.wait_closed() == Closed(4003, "off topic")
            assert await (await world.http.post("/logout/ann")).get_json() == {"closed": 0}

    run_seeded(read_history, seed=1)
    run_seeded(part, seed=1)


async def test_the_history_page_shows_what_is_answered() -> None:
    settings = Settings(history_size=3)
    engine = MemoryEngine(settings, new_epoch=lambda: "f71eb2d3")
    shown = block((DOCS / "http.md").read_text(), "snippet: history")
    exchanges = re.findall(r"^GET (\S+)\n(.+)$", shown, re.MULTILINE)
    assert len(exchanges) >= 5
    async with simulate(create_app(settings, engine=engine, harden=False)) as world:
        push: Triocast = world.app.extensions["triocast"]
        for _ in range(41):
            await push.group("prices").send("not shown")
        await push.group("prices").send("text is a string")
        await push.group("prices").send(Draft.parse(Kind.JSON, b'{"json is": ["embedded", 1.10]}'), key="EUR")
        await push.group("prices").send(b"\x00\xff")
        for path, answer in exchanges:
            response = await world.http.get(path)
            assert await response.get_data(as_text=True) == answer, path


async def test_the_steering_section_shows_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = block((DOCS / "http.md").read_text(), "snippet: steering")
    exchanges = re.findall(r"^DELETE (\S+)\n(.+)$", shown, re.MULTILINE)
    assert len(exchanges) == 4
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    app.register_blueprint(routes(push))
    ids = iter(["9yWmmjv3hOpKnZBD", "Zk3fJx0aW8sLr5Tq", *"ab"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: next(ids))

    @app.websocket("/as/<user>")
    async def ws(user: str) -> None:
        async with push.connect("chat", user=user.replace("-", "/"), format="json") as connection:
            async for _ in connection:
                pass

    async with simulate(app) as world:
        one, two, *_ = [await world.connect(f"/as/{user}") for user in ("bob", "eve", "ann-work", "ann-work")]
        await trio.testing.wait_all_tasks_blocked()
        for path, answer in exchanges:
            response = await world.http.delete(path)
            assert await response.get_data(as_text=True) == answer, path
        assert await one.wait_closed() == Closed(4001, "logged out")
        assert '"code":4003,"reason":"off topic"' in str([await two.receive(), await two.receive()][1])


async def test_the_recovery_page_shows_what_who_comes_back_is_given() -> None:
    settings = Settings(history_size=2)
    engine = MemoryEngine(settings, new_epoch=lambda: "f71eb2d3")
    shown = block((DOCS / "recovery.md").read_text(), "snippet: recovery")
    visits = re.findall(r"^(/ws\S+)\n((?:\{.+\n?)+)", shown, re.MULTILINE)
    assert len(visits) == 2
    async with simulate(create_app(settings, engine=engine, harden=False)) as world:
        push: Triocast = world.app.extensions["triocast"]
        for text in ("one", "two", "three", "four", "five"):
            await push.group("prices").send(text)
        for path, lines in visits:
            client = await world.connect(path)
            for line in lines.splitlines():
                frame = await client.receive()
                assert re.sub(r'"client":"[^"]+"', '"client":"CLIENT"', str(frame)) == line


async def test_the_recovery_page_shows_what_a_new_client_of_last_values_is_given() -> None:
    text = (DOCS / "recovery.md").read_text()
    namespaces = tomllib.loads(text[text.index("[namespaces.prices]") :].split("```")[0])["namespaces"]
    settings = Settings(namespaces=msgspec.convert(namespaces, dict[str, GroupSettings]))
    engine = MemoryEngine(settings, new_epoch=lambda: "f71eb2d3")
    shown = block(text, "snippet: last-values")
    posts = re.findall(r"^\$ curl -d (\S+) 'http://127.0.0.1:8000(\S+)'$", shown, re.MULTILINE)
    ((path, lines),) = re.findall(r"^(/ws\S+)\n((?:\{.+\n?)+)", shown, re.MULTILINE)
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl says
    async with simulate(create_app(settings, engine=engine, harden=False)) as world:
        for data, to in posts:
            assert (await world.http.post(to, data=data, headers=form)).status_code == 200
        client = await world.connect(path)
        for line in lines.splitlines():
            frame = await client.receive()
            assert re.sub(r'"client":"[^"]+"', '"client":"CLIENT"', str(frame)) == line


def test_the_settings_page_is_what_the_code_says() -> None:
    assert (DOCS / "settings.md").read_text() == page(), "python -m tests.docs_settings > docs/settings.md"


def test_every_close_code_is_explained() -> None:
    text = (DOCS / "http.md").read_text()
    assert all(f"| {close.code} |" in text for close in CLOSES)


@pytest.mark.parametrize(
    "path", [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_ci_runs_the_readmes_test_command() -> None:
    """The script takes the command from the README; a change of either must not leave it with nothing to run."""
    command = block(README.read_text(), "test command").strip()
    script = (ROOT / ".ci/run").read_text()
    extract = next(line for line in script.splitlines() if line.startswith("command="))
    done = subprocess.run(
        ["bash", "-c", f'{extract}\necho "$command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.strip() == command


async def test_the_sample_of_the_article_works(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {"__name__": "sample"}
    exec(compile((ROOT / "examples/sample.py").read_text(), "sample.py", "exec"), names)
    async with simulate(names["app"]) as world:  # type: ignore[arg-type]
        clients = [await world.connect("/ws") for _ in range(3)]
        response = await world.http.get("/sample/publish?msg=hello%20world")
        assert await response.get_data() == b"Published!"
        with trio.fail_after(5):
            assert [await client.receive() for client in clients] == ["hello world"] * 3


def test_receipts_in_the_docs_have_the_fields_there_are() -> None:
    shown = re.findall(r'^\{"group":"sample","epoch".*\}$', README.read_text(), re.MULTILINE)
    assert shown
    for line in shown:
        assert list(msgspec.json.decode(line)) == ["group", "epoch", "offset", "subscribers", "behind"]
