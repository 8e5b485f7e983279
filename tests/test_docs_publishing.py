"""The page about publishing is true: its requests are answered as it shows, its commands print it, its code runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from quart_trio import QuartTrio

from tests.e2e.processes import run, triocast
from tests.served import served
from tests.walkthrough import block
from triocast import (
    IdempotencyConflict,
    InvalidConnectionId,
    InvalidGroupName,
    InvalidIdempotencyKey,
    InvalidMessage,
    InvalidPosition,
    MessageTooLarge,
    Overloaded,
    Settings,
    TooManyKeys,
    Triocast,
    UnexpectedPosition,
    UnknownOutcome,
)
from triocast import errors as all_errors
from triocast.engines.memory import MemoryEngine
from triocast.errors import TriocastError
from triocast.testing import World, simulate
from triocast.web import create_app
from triocast.web.batch import AT_ONCE
from triocast.web.items import FIELDS, MAX_PUBLISHES
from triocast.web.payload import BATCH

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/publishing.md").read_text()
SETTINGS = Settings(history_size=10)


def commands(snippet: str) -> list[tuple[list[str], str]]:
    """Return the words of each command, and what is shown below it."""
    shown = block(TEXT, f"snippet: {snippet}")
    return [(shlex.split(command), output) for command, output in re.findall(r"^\$ (.+)\n(.+)$", shown, re.MULTILINE)]


async def curl(world: World, words: list[str]) -> str:
    """Post what curl would."""
    name, *options, url = words
    assert (name, len(options) % 2) == ("curl", 0)
    said = dict(zip(options[::2], options[1::2], strict=True))
    header, _, value = said.get("-H", "Content-Type: application/x-www-form-urlencoded").partition(": ")
    path = url.removeprefix("http://127.0.0.1:8000")
    response = await world.http.post(path, data=said["-d"], headers={header: value})
    return await response.get_data(as_text=True)


@pytest.mark.parametrize("snippet", ["message", "once", "expected", "several"])
async def test_the_requests_are_answered_as_shown(snippet: str) -> None:
    engine = MemoryEngine(SETTINGS, new_epoch=lambda: "f71eb2d3")
    exchanges = commands(snippet)
    assert len(exchanges) >= (1 if snippet == "several" else 2)
    async with simulate(create_app(SETTINGS, engine=engine, harden=False)) as world:
        for words, output in exchanges:
            assert await curl(world, words) == output


async def test_the_commands_print_what_is_shown() -> None:
    async with served(SETTINGS) as app:
        first = await app.publish("counter", b"1")
        await app.publish("counter", b"2")
        await app.publish("chat", b"1")
        exchanges = commands("command")
        assert len(exchanges) == 3
        epochs: Mapping[str, str] = {name: (await app.push.group(name).info()).epoch for name in ("counter", "chat")}
        assert first["epoch"] == epochs["counter"]
        for words, output in exchanges:
            assert words[:2] == ["triocast", "publish"]
            epoch = epochs[words[2]]
            real = [word.replace("f71eb2d3", epoch) for word in words[1:]]
            done = await run(*triocast(*real), TRIOCAST_URL=f"http://127.0.0.1:{app.port}")
            assert (done.stdout + done.stderr).decode() == output.replace("f71eb2d3", epoch) + "\n"
            assert done.returncode == (3 if output.startswith("triocast:") else 0)


async def test_the_code_does_what_the_page_says() -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    for number, source in enumerate(blocks):
        exec(compile(source, f"publishing.md block {number}", "exec"), names)
    app: QuartTrio = names["app"]
    push: Triocast = names["push"]
    async with simulate(app) as world:
        assert await (await world.http.post("/prices/EUR/1.10")).get_json() == {"offset": 1, "told": 0}
        assert (await push.group("prices").history()).messages[0].key == "EUR"

        async def count() -> None:
            assert (await world.http.post("/counter")).status_code == 200

        async with trio.open_nursery() as counting:
            for _ in range(20):
                counting.start_soon(count)
        assert await (await world.http.post("/counter")).get_json() == {"counter": 21}

        author, other = await world.connect("/chat"), await world.connect("/chat")
        epoch = msgspec.json.decode(await author.receive())["joined"]["epoch"]
        await other.receive()
        await author.send("hello")
        assert await author.receive() == f'{{"group":"chat","delivered":{{"epoch":"{epoch}","offset":1}}}}'
        assert await other.receive() == '{"group":"chat","offset":1,"data":"hello"}'


def test_the_errors_of_a_publish_are_listed_with_their_status() -> None:
    table = TEXT[TEXT.index("| status | code |") :]
    rows = re.findall(r"^\| (4\d\d|503) \| (.+?) \|", table, re.MULTILINE)
    listed = {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    kinds = [each for each in vars(all_errors).values() if isinstance(each, type) and issubclass(each, TriocastError)]
    known = {kind.code: kind.status for kind in kinds}
    assert {code: known[code] for code in listed if code in known} == {
        code: status for code, status in listed.items() if code not in ("bad_request", "method_not_allowed")
    }
    mine = (UnexpectedPosition, InvalidConnectionId, InvalidPosition, InvalidIdempotencyKey, IdempotencyConflict)
    others = (InvalidGroupName, InvalidMessage, MessageTooLarge, Overloaded, TooManyKeys, UnknownOutcome)
    assert {kind.code for kind in (*mine, *others)} <= set(listed)


def test_its_numbers_are_the_codes() -> None:
    assert f"At most {MAX_PUBLISHES:,} messages" in TEXT
    assert f"side by side, {AT_ONCE} at a time" in TEXT
    assert BATCH == 1024 * 1024
    assert "a body of at most 1 MiB, or twice `max_message`" in TEXT
    table = TEXT[TEXT.index("| field | |") :].split("\n\n")[0]
    assert {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])} == set(FIELDS)
