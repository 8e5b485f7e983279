"""Starts one server for one measurement and ends it: only the process it started, by its own handle."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.build import BUILD, CannotMeasure
from benchmarks.targets import ALL_OURS, Ready, Target

START_TIMEOUT = 30.0
END_TIMEOUT = 10.0
# Below the kernel's ephemeral ports, so that no client's connection is in the way.
PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its process and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    publish_port: int

    @property
    def pid(self) -> int:
        """The first process; its children are found from it."""
        return self.process.pid

    def terminate(self, patience: float) -> tuple[float, int | None]:
        """Send SIGTERM and return how many seconds it took and the exit code; None if `patience` was not enough."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return patience, None
        return time.monotonic() - begun, code


@contextmanager
def running(target: Target, ready: Ready, options: tuple[str, ...] = ()) -> Iterator[Server]:
    """Run the server; `options` are Triocast's alone. Raises `CannotMeasure` if it does not start."""
    port = _free_port()
    door = _free_port() if target.door else port
    command = [*ready.command(port, door), *(options if target.name in ALL_OURS else ())]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIOCAST_")}
    log = BUILD / f"{target.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=BUILD, env={**clean, **ready.environ}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    server = Server(process, port, door)
    try:
        for each in {port, door}:
            _wait_until_it_listens(server, each, target.name)
        yield server
    finally:
        _end(process)


def last_words(name: str) -> str:
    """Return the end of what the server `name` has printed, on one line."""
    return " ".join((BUILD / f"{name}.log").read_text(errors="replace").split())[-300:]


def _free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise CannotMeasure("no free port between 20000 and 32000")


def _wait_until_it_listens(server: Server, port: int, name: str) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and server.process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise CannotMeasure(f"{name} did not start: {last_words(name)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
