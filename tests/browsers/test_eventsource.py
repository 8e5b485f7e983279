"""npm's `eventsource` in Node: cut off from a real server, it comes back and has missed nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tests.browsers.site import ANOTHER_SERVER, UNAVAILABLE, Cut, Site, cut_off, killed, site
from tests.e2e.processes import Process, running

pytestmark = pytest.mark.once

SCRIPT = str(Path(__file__).parent / "listen.cjs")


class Reader:
    """What the program has said, and what it should have been given."""

    def __init__(self, site: Site, program: Process) -> None:
        self._site = site
        self._program = program
        self.sent: list[str] = []

    async def publish(self, count: int) -> None:
        for _ in range(count):
            self.sent.append(f"news {len(self.sent) + 1}")
            await self._site.publish("/publish", self.sent[-1])

    async def wait_state(self, state: str) -> None:
        await self._program.wait_for(f'"state":"{state}"')

    async def check(self) -> list[dict[str, str]]:
        """Wait for all that was sent, and return all that came."""
        await self._program.wait_for('(?m)^.*"name":"message".*$', times=len(self.sent))
        said = [json.loads(line) for line in self._program.output.splitlines()]
        came = [event for event in said if "name" in event]
        assert [event["data"] for event in came if event["name"] == "message"] == self.sent
        return came


@pytest.mark.parametrize("cut", [killed, cut_off, *ANOTHER_SERVER])
async def test_eventsource_comes_back_by_itself_and_has_missed_nothing(node: str, cut: Cut) -> None:
    async with site("news") as server, running(node, SCRIPT, f"{server.url}/news") as program:
        reader = Reader(server, program)
        await reader.wait_state("live")
        await reader.publish(3)
        newest = (await reader.check())[-1]["id"]
        await cut(server, partial(reader.wait_state, "reconnecting"), reader.publish)
        came = await reader.check()
        gaps = [json.loads(event["data"])["gap"]["reason"] for event in came if event["name"] == "gap"]
        assert gaps == (["epoch"] if cut in ANOTHER_SERVER else [])
        offsets = [int(event["id"].split(":")[1]) for event in came if event["name"] == "message"]
        assert offsets == ([1, 2, 3, 1, 2, 3] if cut in ANOTHER_SERVER else list(range(1, len(offsets) + 1)))
        first, *_, again = [head.lower() for head in server.way.heads]
        assert "\r\nlast-event-id:" not in first
        assert f"\r\nlast-event-id: {newest}" in again
        assert "\r\naccept: text/event-stream" in again


async def test_eventsource_gives_up_after_an_answer_that_is_no_stream(node: str) -> None:
    async with site("news") as server, running(node, SCRIPT, f"{server.url}/news") as program:
        reader = Reader(server, program)
        await reader.wait_state("live")
        server.way.fail(UNAVAILABLE)
        await reader.wait_state("closed")
