"""A worker as a process: started with its order, waited for until it accepts connections, told to go, killed.

It decides nothing; the crew does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import trio
from trio.abc import SendStream

from triocast.serve.order import READY, Order, encode_order


class WorkerProcess:
    """A process that was started as worker `order.number`."""

    def __init__(self, process: trio.Process, order: Order, report: int) -> None:
        self.order = order
        self.process = process
        self.started = trio.current_time()
        self._report = trio.lowlevel.FdStream(report)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.order.number} pid {self.process.pid} returncode {self.process.returncode}>"

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    async def instruct(self) -> bool:
        """Give it its order, and return once it accepts connections (True) or has ended (False)."""
        async with self._report:
            try:
                await cast("SendStream", self.process.stdin).send_all(encode_order(self.order))
                said = await self._report.receive_some()
            except trio.BrokenResourceError:
                return False
        return said == READY

    async def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return await self.process.wait()

    def tell_to_go(self) -> None:
        """Have it leave in order."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)


async def start_process(command: Sequence[str], order: Order, held: Sequence[int]) -> WorkerProcess:
    """Start a worker; it inherits its listening sockets, and keeps `held` open. In a session of its own, so that Ctrl-C
    on the terminal comes to the supervisor alone."""
    report, reported = os.pipe()
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(reported, *held, *(each.descriptor for each in order.listening)),
            start_new_session=True,
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(reported)
    return WorkerProcess(process, replace(order, report=reported), report)


def worker_command() -> list[str]:
    """Return what starts a worker: this Python, looking for modules where this process does."""
    # `-m` would look into the working directory first, where anything may lie.
    flags = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
    return [sys.executable, *flags, "-m", "triocast.serve.worker"]


def describe_end(code: int) -> str:
    """Say how a process ended, after its name."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
