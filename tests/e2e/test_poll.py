"""Polls of a real process, by `curl`, with real signals."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import AsyncExitStack

import pytest
import trio

from tests.e2e.processes import PATIENCE, Server, running, serving, wait_subscribers
from tests.poll import poller

pytestmark = pytest.mark.once

EMPTY = r'^\{"group":"sample","messages":\[\],"next":"\w+:0"\}$'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_waits_is_answered_at_once_when_the_server_stops(curl: str, number: int) -> None:
    async with serving("--grace", "25") as server, AsyncExitStack() as stack:
        async with running(curl, "-sS", f"{server.http}/poll/sample?wait=60") as listener:
            clients = [await stack.enter_async_context(poller(server.port)) for _ in range(50)]
            for client in clients:
                await client.ask("/poll/sample?wait=60")
            await wait_subscribers(server, "sample", 51)
            server.program.process.send_signal(number)
            for client in clients:  # whose patience is shorter than the grace, and than the wait
                answer = await client.answer()
                assert (answer.data, answer.next.split(":")[1]) == ([], "0")
                assert await client.ends()
                client.socket.close()
            with trio.fail_after(PATIENCE):
                assert await listener.process.wait() == 0, listener.output
                assert await server.program.process.wait() == 0
            await listener.wait_for(EMPTY)


async def test_a_client_that_reads_no_answer_does_not_keep_the_server_from_stopping() -> None:
    async with serving(
        "--grace", "2", "--close-timeout", "1", "--max-lag-bytes", "9000000", "--max-message", "8000000"
    ) as server:
        async with poller(server.port, buffer=8192) as client:
            await client.ask("/poll/sample?wait=60")
            await wait_subscribers(server, "sample", 1)
            await _publish(server, b"x" * 8_000_000)
            await wait_subscribers(server, "sample", 0)  # it is being answered
            assert await server.program.end() == 0


async def test_hypercorn_answers_polls_as_well_and_whoever_waits_when_it_stops(curl: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}", "triocast.asgi:app"]
    async with running(*command) as program:
        await program.wait_for("Running on")
        server = Server(program, port)
        async with running(curl, "-sS", f"{server.http}/poll/sample?wait=60") as one:
            await wait_subscribers(server, "sample", 1)
            await _publish(server, b"hello")
            with trio.fail_after(PATIENCE):
                assert await one.process.wait() == 0, one.output
            await one.wait_for(r'"messages":\[\{"group":"sample","offset":1,"data":"hello"\}\],"next":"\w+:1"\}$')
        async with running(curl, "-sS", f"{server.http}/poll/sample?wait=60") as other:
            await wait_subscribers(server, "sample", 1)
            assert await program.end() == 0
            with trio.fail_after(PATIENCE):
                assert await other.process.wait() == 0, other.output
            await other.wait_for(r'"messages":\[\],"next":"\w+:1"\}$')


async def _publish(server: Server, body: bytes) -> None:
    async with poller(server.port) as client:
        await client.ask("/publish/sample", f"Content-Length: {len(body)}", method="POST")
        await client.stream.send_all(body)
        assert (await client.answer()).status == 200
