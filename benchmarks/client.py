"""Drives the load client: starts it, waits for its phases, and lets it go on when the server has been looked at."""

from __future__ import annotations

import json
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.build import LOAD, CannotMeasure
from benchmarks.server import Server

LOOK = 0.05  # seconds between two looks at the server while a phase lasts


class LoadFailed(CannotMeasure):
    """The load client ended without a result; the message has its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the load client is to do: its options, by their names.

    Without a `path` and a `publish_path` it is about the group that every server has.
    """

    subscribers: int
    stalled: int = 0
    publishers: int = 1
    payload: int = 64
    messages: int = 0
    warmup: int = 0
    seconds: float = 3600.0
    patience: float = 20.0
    by_websocket: bool = False
    window: int = 256
    sse: bool = False
    spread: bool = False
    rate: float = 0.0
    at_once: int = 64
    expect: int = 0
    first: int = 0
    path: str = ""
    publish_path: str = ""
    trace: str = ""
    json: bool = False
    record: str = ""

    def words(self, server: Server) -> list[str]:
        """Return the command line."""
        said = {"port": server.port, "publish_port": server.publish_port, **asdict(self)}
        words = [str(LOAD), "--step"]
        for name, value in said.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words += [option] if value else []
            elif value != "":
                words.append(f"{option}={value}")
        return words


class Client:
    """A running load client; `wait_for` and `go_on` in turn."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, phase: str, patience: float, look: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Return what it says of `phase`, calling `look` every LOOK seconds until then. Raises `LoadFailed`."""
        assert self._process.stdout is not None
        for _ in range(int(patience / LOOK)):
            if select.select([self._process.stdout], [], [], LOOK)[0]:
                break
            look()
        else:
            raise LoadFailed(f"the load client was not {phase} within {patience:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(self._last_words())
        said: dict[str, Any] = json.loads(line)
        if said["phase"] != phase:
            raise LoadFailed(f"the load client was {said['phase']} instead of {phase}")
        return said

    def go_on(self) -> None:
        """Let it begin its next phase."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def enough(self) -> None:
        """Let it publish no more, as if its time were up."""
        self._process.send_signal(signal.SIGUSR1)

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        return " ".join(self._process.stderr.read().split())[:300] or "the load client ended without a word"


@contextmanager
def loading(load: Load, server: Server) -> Iterator[Client]:
    """Run the load client against `server`; at the end of the block it is gone."""
    pipe = subprocess.PIPE
    with subprocess.Popen(load.words(server), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Client(process)
        finally:
            process.kill()
