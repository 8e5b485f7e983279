"""Who is in a group that clients of two workers share, and what is told when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
from contextlib import AsyncExitStack
from typing import Any
from urllib.request import urlopen

import pytest
import trio
import trio_websocket

from tests.e2e.crews import Crew, crew
from tests.e2e.processes import PATIENCE, websocket
from tests.redis_servers import Server

pytestmark = pytest.mark.once

WORKER = "triocast.serve.worker"
DEATH = 20.0  # seconds: 10 of silence, some until that is looked at, and what a busy machine adds


async def test_who_was_on_a_killed_worker_is_lost_to_clients_of_the_other_each_once(valkey: Server) -> None:
    async with crew(f"engine=redis://127.0.0.1:{valkey.port}", module=WORKER) as server, AsyncExitStack() as stack:
        ids: dict[str, list[str]] = {"1": [], "2": []}
        clients: dict[str, trio_websocket.WebSocketConnection] = {}
        while min(len(ids["1"]), len(ids["2"])) < 3:
            before = await server.metric("triocast_connections")
            url = f"{server.ws}/ws/g?format=json&presence=1"
            client = await stack.enter_async_context(websocket(url))
            greeting = await told(client, "joined")
            after = await server.metric("triocast_connections")
            (worker,) = [label for label in after if after[label] > before[label]]
            ids[worker].append(greeting["joined"]["client"])
            clients[worker] = client
        await listed(server, ids["1"] + ids["2"])
        os.kill(server.pid(1), signal.SIGKILL)
        left: list[dict[str, str]] = []
        with trio.fail_after(DEATH):
            while len(left) < len(ids["1"]):
                event = await told(clients["2"], "presence")
                if event["presence"] != "reset":
                    left += event["presence"].get("left", [])
        assert sorted(each["client"] for each in left) == sorted(ids["1"])
        assert {each["reason"] for each in left} == {"lost"}
        await listed(server, ids["2"])
        assert await server.program.end() == 0


async def told(client: trio_websocket.WebSocketConnection, what: str) -> dict[str, Any]:
    """Return the next thing of its kind that the client is told."""
    with trio.fail_after(PATIENCE):
        while True:
            frame: dict[str, Any] = json.loads(await client.get_message())
            if what in frame:
                return frame


async def listed(server: Crew, clients: list[str]) -> None:
    """Wait until these, and nobody else, are the group's members."""

    def ask() -> dict[str, Any]:
        with urlopen(f"{server.http}/members/g", timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    with trio.fail_after(PATIENCE):
        while True:
            page = await trio.to_thread.run_sync(ask)
            if [member["client"] for member in page["members"]] == sorted(clients):
                assert page["count"] == len(clients)
                return
            await trio.sleep(0.02)
