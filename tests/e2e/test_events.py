"""Server-sent events from a real process, read by `curl`, with real signals."""

from __future__ import annotations

import signal
import socket
import sys

import pytest
import trio

from tests.e2e.processes import PATIENCE, Server, running, serving
from tests.sse import connect


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_curl_sees_what_is_published_why_the_server_stops_and_the_end(curl: str, number: int) -> None:
    async with serving() as server, running(curl, "-sSN", f"{server.http}/sse/sample") as listener:
        await listener.wait_for("(?m)^event: join$")
        async with running(curl, "-sS", "-d", "hello", f"{server.http}/publish/sample") as publisher:
            assert await publisher.process.wait() == 0
        await listener.wait_for("(?m)^data: hello$")
        assert await server.program.end(number) == 0
        with trio.fail_after(PATIENCE):
            assert await listener.process.wait() == 0, listener.output  # 18 if the last chunk were missing
        await listener.wait_for('(?m)^event: close\ndata: {"code":1012,')


async def test_a_client_that_never_reads_does_not_keep_the_server_from_stopping() -> None:
    async with serving("--grace", "2", "--close-timeout", "1") as server:
        client = await connect(server.port, buffer=8192)
        await (await client.listen("/sse/sample")).joined()
        with trio.fail_after(PATIENCE):
            await _fill(server)
        assert await server.program.end() == 0
        client.socket.close()


async def _fill(server: Server) -> None:
    body = bytes(1_000_000)
    head = f"POST /publish/sample HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with stream:
        for _ in range(8):  # more than two kernels hold
            await stream.send_all(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + body)
            answer = b""
            while not answer.endswith(b"}"):
                answer += await stream.receive_some()


async def test_hypercorn_with_one_worker_ends_streams_as_well(curl: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}", "triocast.asgi:app"]
    async with running(*command) as program:
        await program.wait_for("Running on")
        async with running(curl, "-sSN", f"http://127.0.0.1:{port}/sse/sample") as listener:
            await listener.wait_for("(?m)^event: join$")
            assert await program.end() == 0
            with trio.fail_after(PATIENCE):
                assert await listener.process.wait() == 0, listener.output
            await listener.wait_for('(?m)^data: {"code":1012,')
