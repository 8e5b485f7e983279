"""What the library's page says of listeners does what it says, against a server that tells of members."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio_websocket

from triocast.client import Members

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
PATIENCE = 30.0
ANSWER = b'{"group":"chat","members":[{"client":"a"},{"client":"b"}],"next":null}'
FRAMES = (
    '{"group":"chat","joined":{"epoch":"e","offset":0}}',
    '{"group":"chat","presence":"reset"}',
    '{"group":"chat","presence":{"joined":[{"client":"c","user":null,"info":null}]}}',
    '{"group":"chat","presence":{"left":[{"client":"a","reason":"lost"}],"moved":[{"was":"c","client":"d"}]}}',
)


def snippet(name: str) -> Any:
    """Return the function `name` of the page's snippets."""
    sources = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (source,) = (source for source in sources if f"async def {name}(" in source)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec("from triocast.client import PresenceReset, open_listener", names)  # which a snippet before imports
    exec(compile(source, f"library.md: {name}", "exec"), names)
    return names[name]


@asynccontextmanager
async def telling(paths: list[str]) -> AsyncIterator[str]:
    """Serve who is told of members, and then that it is over."""

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        paths.append(request.path)
        websocket = await request.accept()
        for frame in FRAMES:
            await websocket.send_message(frame)
        with suppress(trio_websocket.ConnectionClosed):
            await websocket.aclose(1000)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, None)
            server = await nursery.start(serve)
            yield f"http://127.0.0.1:{server.port}"
            nursery.cancel_scope.cancel()


async def test_who_watches_is_told_who_comes_and_goes() -> None:
    paths: list[str] = []
    told: list[str] = []
    async with telling(paths) as url:
        await snippet("watch")(url, told)
    assert paths == ["/ws?group=chat&format=json&presence=1&info=%7B%22name%22%3A%22Ann%22%7D"]
    assert told == ["who is there?", "c joined", "a left: lost", "c is d now"]


async def test_who_keeps_a_list_has_it_right_behind_the_answer_and_all_that_follows() -> None:
    asked: list[str] = []
    shown: list[set[str]] = []

    async def get(path: str) -> bytes:
        asked.append(path)
        await trio.lowlevel.checkpoint()
        return ANSWER

    def show(members: Members) -> None:
        shown.append(set(members))

    async with telling([]) as url:
        await snippet("keep_list")(url, get, show)
    assert asked == ["/members/chat?limit=1000"]
    assert shown == [{"a", "b"}, {"a", "b", "c"}, {"b", "d"}]
