"""What http.md says of long-polling is true: its answers are what comes, and its loops run."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import Process, Server, running, tool
from tests.poll import poller
from tests.walkthrough import block
from triocast import Draft, Kind, Settings, Triocast
from triocast.engines.memory import MemoryEngine
from triocast.testing import simulate
from triocast.web import create_app

pytestmark = pytest.mark.once

TEXT = (Path(__file__).parent.parent / "docs/http.md").read_text()
PRELUDE = """
const ask = fetch
globalThis.fetch = path => ask("http://127.0.0.1:PORT" + path)
"""


async def test_the_answers_are_what_comes() -> None:
    settings = Settings(history_size=3)
    engine = MemoryEngine(settings, new_epoch=lambda: "f71eb2d3")
    exchanges = re.findall(r"^GET (\S+)\n(.+)$", block(TEXT, "snippet: poll"), re.MULTILINE)
    assert len(exchanges) == 4
    async with simulate(create_app(settings, engine=engine, harden=False)) as world:
        push: Triocast = world.app.extensions["triocast"]
        for _ in range(41):
            await push.group("prices").send("not shown")
        await push.group("prices").send("text is a string")
        await push.group("prices").send(Draft.parse(Kind.JSON, b'{"json is": ["embedded", 1.10]}'))
        await push.group("prices").send(b"\x00\xff")
        for path, answer in exchanges:
            response = await world.http.get(path)
            assert await response.get_data(as_text=True) == answer, path


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@asynccontextmanager
async def _serving(port: int) -> AsyncIterator[Server]:
    async with running(sys.executable, "-m", "triocast", "serve", "--bind", f"127.0.0.1:{port}") as program:
        await program.wait_for("listening")
        yield Server(program, port)


async def _publish(port: int, text: str) -> None:
    async with poller(port) as client:
        await client.ask("/publish/sample", f"Content-Length: {len(text)}", method="POST")
        await client.stream.send_all(text.encode())
        assert (await client.answer()).status == 200


async def _show_two_lives(loop: Process, port: int) -> None:
    """The server is not there, comes, goes and comes again: what is shown is all there was, and the new life."""
    async with _serving(port) as server:
        await _publish(port, "one")
        await loop.wait_for('"offset":1,"data":"one"')
        await _publish(port, 'two\nlines "next":"x"}')
        await loop.wait_for('"offset":2,"data":"two')
        assert await server.program.end() == 0
    async with _serving(port):
        await _publish(port, "three")
        await loop.wait_for('"reason":"epoch"(.|\n)*"offset":1,"data":"three"')
    assert loop.output.count('"offset":') == 3


async def test_the_loop_for_a_shell_shows_every_message(curl: str, port: int) -> None:
    script = block(TEXT, "snippet: poll-curl").replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("curl", curl)
    async with running("sh", "-c", script) as loop:
        await _show_two_lives(loop, port)


async def test_the_loop_for_a_page_shows_every_message(port: int) -> None:
    source = block(TEXT, "snippet: poll-js")
    assert len(source.splitlines()) <= 15
    call = '\npoll("sample", message => console.log(JSON.stringify(message)))'
    script = PRELUDE.replace("PORT", str(port)) + source + call
    async with running(tool("node"), "-e", script) as loop:
        await _show_two_lives(loop, port)


async def test_the_loop_for_a_page_ends_with_what_is_wrong(port: int) -> None:
    call = '\npoll("a*b").catch(error => console.log("ended:", error.message))'
    script = PRELUDE.replace("PORT", str(port)) + block(TEXT, "snippet: poll-js") + call
    async with _serving(port), running(tool("node"), "-e", script) as loop:
        await loop.wait_for("ended: 'a\\*b' is not a group name")
