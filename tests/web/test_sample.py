"""The article's sample, run from the file that the README names."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import trio.testing
from quart_trio import QuartTrio

from triocast.testing import simulate

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.py"


@pytest.fixture
def app(hypercorn_restored: None) -> QuartTrio:
    sample: QuartTrio = runpy.run_path(str(SAMPLE))["app"]
    return sample


async def test_everybody_gets_what_is_published(app: QuartTrio) -> None:
    async with simulate(app) as world:
        clients = [await world.connect("/ws") for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()  # until they have joined
        response = await world.http.get("/sample/publish?msg=hello%20world")
        assert await response.get_data(as_text=True) == "Published!"
        assert [await client.receive() for client in clients] == 3 * ["hello world"]


async def test_what_clients_say_disturbs_nobody(app: QuartTrio) -> None:
    async with simulate(app) as world:
        one, two = await world.connect("/ws"), await world.connect("/ws")
        await one.send("is anybody there?")
        await one.close()
        await trio.testing.wait_all_tasks_blocked()
        await world.http.get("/sample/publish?msg=hello")
        assert await two.receive() == "hello"
