"""A supervisor with its workers as real processes, and what a test wants to know of them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.processes import PATIENCE, Process, Server, running

MEMORY = "tests.e2e.memory_worker"
STUBBORN = "tests.e2e.stubborn_worker"
# What stands for an engine of somebody else's: workers of the tests have their memory all the same.
ELSEWHERE = "engine=redis://127.0.0.1:1"


@dataclass
class Crew(Server):
    """The workers behind one port."""

    def pids(self, worker: int) -> list[int]:
        """The processes that have been this worker, the present one last."""
        found = re.findall(rf'"accepting connections", "pid": (\d+), "worker": {worker}\b', self.program.output)
        return [int(pid) for pid in found]

    def pid(self, worker: int) -> int:
        return self.pids(worker)[-1]

    async def wait_started(self, worker: int, times: int) -> int:
        """Wait until a worker has been started so often; returns its process."""
        found = await self.program.wait_for(
            rf'"accepting connections", "pid": (\d+), "worker": {worker}\b', times=times
        )
        return int(found[1])

    async def metric(self, name: str) -> dict[str, float]:
        """What a metric without other labels is, by worker."""
        page = (await fetch(self.port, "/metrics")).split("\r\n\r\n", 1)[1]
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return {sample.labels["worker"]: sample.value for sample in samples if sample.name == name}


async def fetch(port: int, path: str) -> str:
    """Return an answer, head and body."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        data = bytearray()
        with trio.fail_after(PATIENCE):
            async for piece in stream:
                data += piece
    return data.decode()


@asynccontextmanager
async def crew(*options: str, module: str = MEMORY, **environ: str) -> AsyncIterator[Crew]:
    """Run a supervisor with two workers, unless the options say otherwise."""
    async with supervisor(*options, module=module, **environ) as program:
        listening = await program.wait_for(r"http://127\.0\.0\.1:(\d+)")
        yield Crew(program, int(listening[1]))


@asynccontextmanager
async def supervisor(*options: str, module: str = MEMORY, **environ: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "tests.e2e.supervised", module, "workers=2", *options]
    async with running(*command, **environ) as program:
        yield program


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop a process for the block, after which it goes on, whatever happened: nobody else would wake it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not Path("/proc/self").exists()  # a system that has no such thing
    return stat.rpartition(")")[2].split()[0] != "Z"


async def wait_gone(*pids: int) -> None:
    """Wait until these processes have ended; nothing tells of the end of somebody else's child."""
    with trio.fail_after(PATIENCE):
        while any(alive(pid) for pid in pids):
            await trio.sleep(0.01)
