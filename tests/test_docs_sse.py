"""The page about server-sent events is true: its stream is what comes, its page the example's, its code runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import indent

import pytest
import trio
from quart_trio import QuartTrio

from tests.sse import Listener, connect
from tests.walkthrough import block
from triocast import Draft, Kind, Settings, Triocast
from triocast.engines.memory import MemoryEngine
from triocast.link.host import open_host
from triocast.web import create_app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/sse.md").read_text()


@asynccontextmanager
async def serving(app: QuartTrio) -> AsyncIterator[Listener]:
    """Serve an application while the block lasts, and give a client that is connected to it."""
    async with open_host(app, app.extensions["triocast"].settings) as host, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, host.serve, [listener])
        client = await connect(listener.socket.getsockname()[1])
        try:
            yield client
        finally:
            client.socket.close()
            host.reset_all()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("snippet", ["stream", "json"])
async def test_the_stream_is_what_comes(snippet: str) -> None:
    settings = Settings(history_size=3)
    engine = MemoryEngine(settings, new_epoch=lambda: "f71eb2d3")
    command, expected = block(TEXT, f"snippet: {snippet}").split("\n", 1)
    target = re.search(r"8000(/\S+)'", command)
    assert target is not None
    async with serving(app := create_app(settings, engine=engine, harden=False)) as client:
        push: Triocast = app.extensions["triocast"]
        for message in ("1", "2", "3", Draft.parse(Kind.JSON, b'{"EUR": 1.10}'), "two\r\nlines", b"\x00\xff"):
            await push.group("prices").send(message)
        await push.group("news").send(Draft.parse(Kind.JSON, b'{"EUR": 1.10}'))
        await client.ask(target[1], version="1.0")  # without chunks
        got = ""
        while len(got) < len(expected):
            got += bytes(await client.stream.receive_some()).decode()
            got = re.sub(r'"client":"[^"]{16}"', '"client":"CLIENT"', re.sub(r"retry: \d+", "retry: 2000", got))
        assert got == expected


@pytest.mark.parametrize(
    ("page", "marker", "example"),
    [("sse.md", "snippet: page", "news.html"), ("recovery.md", "snippet: browser", "ticker.html")],
)
def test_what_a_page_does_is_what_the_examples_page_does(page: str, marker: str, example: str) -> None:
    shown = block((ROOT / "docs" / page).read_text(), marker)
    assert indent(shown, "  ") in (ROOT / "examples" / example).read_text()


def test_how_a_page_stops_is_shown() -> None:
    assert "source.close()" in block(TEXT, "snippet: close")


async def test_the_snippet_lets_readers_listen() -> None:
    names: dict[str, object] = {"__name__": "snippet"}
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(source, "sse.md", "exec"), names)
    app = names["app"]
    assert isinstance(app, QuartTrio)
    async with serving(app) as client:
        await app.extensions["triocast"].group("news").send("before")
        await client.listen("/news")
        assert [event.data for event in (await client.events(2))[1:]] == ["before"]


async def test_the_example_shows_what_is_published() -> None:
    names: dict[str, object] = {"__name__": "news", "__file__": str(ROOT / "examples/news.py")}
    exec(compile((ROOT / "examples/news.py").read_text(), "news.py", "exec"), names)
    app = names["app"]
    assert isinstance(app, QuartTrio)
    async with serving(app) as client:
        http = app.test_client()
        assert "EventSource" in await (await http.get("/")).get_data(as_text=True)
        await (await client.listen("/news")).joined()
        assert await (await http.post("/publish", data=b"it rains")).get_data() == b"Published!\n"
        event = await client.event()
        assert event.data == "it rains"
        await http.post("/publish", data=b"it pours")
        again = await connect(client.socket.getpeername()[1])
        await again.listen(f"/news?since={event.id}")
        assert [each.data for each in (await again.events(2))[1:]] == ["it pours"]
        again.socket.close()
        assert (await http.get("/news?since=yesterday")).status_code == 400
