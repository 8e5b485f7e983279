"""Real processes for the end-to-end tests: the server, and clients whose output is waited for, never slept for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
import trio
import trio_websocket

PATIENCE = 30.0  # seconds until a test gives up on what should take a moment; a bound, not a measure
BIN = Path(sys.executable).parent


def tool(*names: str) -> str:
    """Where a client program is that has one of these names. Without it the test is `missing` it."""
    for name in names:
        if path := shutil.which(name, path=f"{BIN}:{os.environ['PATH']}"):
            return path
    return missing(names[0])


def missing(name: str) -> NoReturn:
    """Skip the test with the name of what is not installed; in CI, where it must be, the test fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, and CI must have it")
    pytest.skip(f"{name} is not installed")


class Process:
    """A running program and the lines it has printed."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""
        self._more = trio.Event()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            self.output += data.decode(errors="replace")
            self._more.set()
            self._more = trio.Event()

    async def wait_for(self, pattern: str, *, times: int = 1, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until the output holds `pattern`, `times` times; returns the last of them."""
        with trio.move_on_after(patience):
            while len(found := list(re.finditer(pattern, self.output))) < times:
                await self._more.wait()
            return found[times - 1]
        raise AssertionError(f"no {pattern!r} in:\n{self.output}")

    async def say(self, text: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(text.encode())

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def running(*command: str, **environ: str) -> AsyncIterator[Process]:
    """Run a program with its output collected; it is killed at the end of the block if it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIOCAST_")}
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean, "PYTHONUNBUFFERED": "1", **environ},
        )
        program = Process(process)
        nursery.start_soon(program.read)
        try:
            yield program
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


async def run(*command: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIOCAST_")}
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            list(command),
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**clean, **environ},
        )


@dataclass
class Server:
    """`triocast serve` (or another) on a port of its own."""

    program: Process
    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(*options: str, **environ: str) -> AsyncIterator[Server]:
    """Run `triocast serve` on a free port of loopback."""
    command = [sys.executable, "-m", "triocast", "serve", "--bind", "127.0.0.1:0", *options]
    async with running(*command, **environ) as program:
        listening = await program.wait_for(r"https?://127\.0\.0\.1:(\d+)")
        yield Server(program, int(listening[1]))


async def ask(port: int, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, bytes]:
    """Send a bare HTTP/1.1 request to a port of loopback; return the status and the body of the answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(body)}"]
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all("\r\n".join([*lines, *headers, "", ""]).encode() + body)
        data = bytearray()
        with trio.fail_after(PATIENCE):
            async for chunk in stream:
                data += chunk
    head, answer = bytes(data).split(b"\r\n\r\n", 1)
    return int(head.split()[1]), answer


async def get(server: Server, path: str) -> tuple[int, dict[str, object]]:
    """Fetch JSON."""
    status, answer = await ask(server.port, "GET", path)
    return status, json.loads(answer)


async def wait_subscribers(server: Server, group: str, count: int) -> None:
    """Ask until the group has `count` members; a real process has no event that a test could wait for."""
    with trio.fail_after(PATIENCE):
        while (await get(server, f"/groups/{group}"))[1]["subscribers"] != count:
            await trio.sleep(0.01)


@asynccontextmanager
async def websocket(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect a trio-websocket client over a stream of our own: it leaves its socket open when the server closes."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    stream: trio.abc.Stream = await trio.open_tcp_stream(parts.hostname, parts.port)
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname=parts.hostname, https_compatible=True)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    async with trio.open_nursery() as nursery:
        try:
            with trio.fail_after(PATIENCE):
                client = await trio_websocket.wrap_client_stream(nursery, stream, parts.netloc, target)
            yield client
        finally:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


def triocast(*words: str) -> Sequence[str]:
    """The command line of a triocast command, run by this Python."""
    return [sys.executable, "-m", "triocast", *words]
