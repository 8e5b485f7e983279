"""Clients that are cut off again and again: real ones in processes of their own, or in memory on a virtual clock.

What counts is whether each was given everything, once and in order.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Any

from benchmarks.build import HERE, CannotMeasure
from benchmarks.cases import Case
from benchmarks.server import Server

PROCESSES = 2  # of clients: one would be as busy as the server
CONNECT_PATIENCE = 60.0
END_PATIENCE = 60.0
VIRTUAL_PATIENCE = 900.0

Facts = dict[str, Any]


def real(case: Case, server: Server) -> Facts:
    """Publish at a steady rate to clients of `server` that are cut off."""
    share = case.load.subscribers // PROCESSES
    with ExitStack() as stack:
        groups = [
            stack.enter_context(_travellers(server, share, case.load.messages, seed)) for seed in range(PROCESSES)
        ]
        for each in groups:
            _line(each, CONNECT_PATIENCE)
        _publish(server, case.load.messages, case.load.rate)
        said = [json.loads(_line(each, END_PATIENCE)) for each in groups]
    return _facts({name: sum(each[name] for each in said) for name in said[0]}, case.load.messages)


def virtual(case: Case) -> Facts:
    """Run the same in memory, on a virtual clock."""
    seconds = case.load.messages / case.load.rate
    command = [sys.executable, "-m", "tests.jitter", str(case.load.subscribers), str(seconds)]
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, capture_output=True, text=True, timeout=VIRTUAL_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"the simulation was not over within {VIRTUAL_PATIENCE:g} s") from error
    if done.returncode:
        raise CannotMeasure(f"the simulation failed: {' '.join(done.stderr.split())[-300:]}")
    return _facts(json.loads(done.stdout), case.load.messages)


def _facts(said: dict[str, int], messages: int) -> Facts:
    wrong = {name: said[name] for name in ("twice", "gaps", "damaged") if said[name]}
    wanted = said["clients"] * messages
    complete = not wrong and said["delivered"] == wanted
    found = ", ".join(f"{count} {name}" for name, count in wrong.items())
    why = f"{said['delivered']} of {wanted} delivered{', ' if found else ''}{found}"
    return {
        "delivered": said["delivered"] / wanted,
        "cuts": said["cuts"],
        "complete": complete,
        "error": None if complete else why,
    }


@contextmanager
def _travellers(server: Server, clients: int, messages: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    words: Sequence[object] = (server.port, clients, messages, seed)
    command = [sys.executable, "-m", "benchmarks.travellers", *map(str, words)]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str], patience: float) -> str:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], patience)[0]:
        raise CannotMeasure(f"the clients said nothing within {patience:g} s")
    line = process.stdout.readline()
    if not line:
        raise CannotMeasure("the clients ended without a word")
    return line


def _publish(server: Server, messages: int, rate: float) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=END_PATIENCE)
    begun = time.monotonic()
    for number in range(messages):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        connection.request("POST", "/publish/jitter", str(number).encode(), {"Content-Type": "text/plain"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise CannotMeasure(f"a publish was answered {answer.status}")
    connection.close()
