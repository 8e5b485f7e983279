"""Publishing to two workers on one server as publishers do: over HTTP, all at once, to whoever takes the call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.crews import Crew, fetch
from tests.e2e.processes import PATIENCE, ask, get, run, serving, triocast, wait_subscribers, websocket
from tests.redis_servers import Server

pytestmark = pytest.mark.once

JSON = "Content-Type: application/json"


@asynccontextmanager
async def two_workers(valkey: Server) -> AsyncIterator[Crew]:
    engine = f"redis://127.0.0.1:{valkey.port}"
    async with serving("--workers", "2", "--engine", engine, "--history-size", "1000") as server:
        yield Crew(server.program, server.port)


async def publishers(server: Crew) -> set[str]:
    """Return the workers that have published."""
    page = (await fetch(server.port, "/metrics")).split("\r\n\r\n", 1)[1]
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    counts = [sample for sample in samples if sample.name == "triocast_published_messages_total" and sample.value]
    return {sample.labels["worker"] for sample in counts}


async def newest(server: Crew, group: str) -> tuple[str, int]:
    """Return where a group is, as a publish expects it, and the number that its newest message is; 0 without one."""
    _, page = await get(server, f"/groups/{group}/messages?reverse=1&limit=1")
    messages = page["messages"]
    assert isinstance(messages, list)
    return (f"{page['epoch']}:{page['offset']}", messages[0]["data"]) if messages else ("0", 0)


async def test_a_counter_raced_over_two_workers_counts_every_increment_once(valkey: Server) -> None:
    async with two_workers(valkey) as server:
        counted = refused = 0

        async def increment() -> None:
            nonlocal counted, refused
            while True:
                at, value = await newest(server, "counter")
                address = f"/publish/counter?expected={at}"
                status, answer = await ask(server.port, "POST", address, b"%d" % (value + 1), JSON)
                if status == 200:
                    counted += 1
                    return
                assert (status, json.loads(answer)["error"]["code"]) == (409, "unexpected_position")
                refused += 1

        with trio.fail_after(PATIENCE):
            # Who takes a connection is a race between the workers; they go on until both have counted.
            while not refused or await publishers(server) != {"1", "2"}:
                async with trio.open_nursery() as racers:
                    for _ in range(12):
                        racers.start_soon(increment)
        _, page = await get(server, "/groups/counter/messages?limit=1000")
        messages = page["messages"]
        assert isinstance(messages, list)
        assert [each["data"] for each in messages] == [*range(1, counted + 1)]
        assert (await server.program.end()) == 0


async def test_who_is_excluded_is_told_so_whichever_worker_it_and_the_publisher_are_at(valkey: Server) -> None:
    async with two_workers(valkey) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(websocket(f"{server.ws}/ws/g?format=json")) for _ in range(6)]
        await wait_subscribers(server, "g", len(clients))
        ids = [json.loads(await client.get_message())["joined"]["client"] for client in clients]
        items = [{"group": "g", "data": id_, "exclude": id_} for id_ in ids] + [{"group": "g", "data": "all"}]
        status, answer = await ask(server.port, "POST", "/publish", json.dumps(items).encode(), JSON)
        assert (status, [each["offset"] for each in json.loads(answer)["results"]]) == (200, [*range(1, 8)])
        epoch = json.loads(answer)["results"][0]["epoch"]
        with trio.fail_after(PATIENCE):
            for own, client in enumerate(clients, 1):
                told = [json.loads(await client.get_message()) for _ in items]
                assert told[own - 1] == {"group": "g", "delivered": {"epoch": epoch, "offset": own}}
                assert [each.get("offset", own) for each in told] == [*range(1, 8)]


async def test_the_command_says_where_the_group_is_that_was_expected_elsewhere(valkey: Server) -> None:
    async with two_workers(valkey) as server:

        async def publish(*words: str) -> tuple[int, str, str]:
            done = await run(*triocast("publish", "--url", server.http, "g", *words))
            return done.returncode, done.stdout.decode(), done.stderr.decode()

        code, out, _ = await publish("one", "--expected", "0")
        epoch = json.loads(out)["epoch"]
        assert (code, json.loads(out)["offset"]) == (0, 1)
        code, out, err = await publish("two", "--expected", "0")
        assert (code, out) == (3, "")
        assert f"the group is at {epoch}:1 now" in err
        assert (await publish("two", "--expected", f"{epoch}:1", "--exclude", "somebody"))[0] == 0
