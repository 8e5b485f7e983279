"""Clients that all come back at once with old positions, while others are sent messages at a steady rate.

The figure is the p99 of those messages while the clients come back, beside their p99 before.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.build import HERE, CannotMeasure
from benchmarks.cases import Case, Storm
from benchmarks.client import Load, loading
from benchmarks.server import Server
from benchmarks.stamps import stamp

PATIENCE = 120.0
PAUSE = 1.0  # seconds between two storms: the clients of the last one leave
IN_MEMORY_PATIENCE = 300.0

Facts = dict[str, Any]
Window = tuple[int, int]
"""From when to when, in nanoseconds of the monotonic clock."""


@dataclass(slots=True)
class Absent:
    """The group whose clients are away, and how many messages have been published to it."""

    server: Server
    payload: int
    published: int = 0
    group: str = "storm"

    def miss(self, count: int) -> str:
        """Publish what the clients miss; returns the position that they come back with."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        position = ""
        for _ in range(count):
            body = stamp(self.published, self.payload)
            connection.request("POST", f"/publish/{self.group}", body, {"Content-Type": "text/plain"})
            receipt = json.loads(connection.getresponse().read())
            position = position or f"{receipt['epoch']}:{receipt['offset'] - 1}"
            self.published += 1
        connection.close()
        return position

    def come_back(self, storm: Storm) -> tuple[Window, bool]:
        """Let all the clients connect at once. Returns when they did and when the last had what it missed, and whether
        each was given that once and in order, and a live message after it."""
        since = self.miss(storm.missed)
        load = Load(
            subscribers=storm.clients,
            at_once=storm.clients,
            payload=self.payload,
            expect=storm.missed,
            first=self.published - storm.missed,
            messages=1,
            path=f"/ws/{self.group}?since={since}",
            publish_path=f"/publish/{self.group}",
        )
        with loading(load, self.server) as client:
            client.wait_for("ready", PATIENCE)
            client.go_on()
            client.wait_for("connected", PATIENCE)
            client.go_on()
            recovered = client.wait_for("recovered", PATIENCE)
            client.go_on()
            whole = client.wait_for("published", PATIENCE)["complete"]
        self.published += 1
        return (recovered["begun"], recovered["ended"]), recovered["complete"] and whole


def real(case: Case, server: Server) -> Facts:
    """Measure storms of real clients on `server`."""
    assert case.storm is not None
    absent = Absent(server, case.load.payload)
    absent.come_back(replace(case.storm, clients=max(case.storm.clients // 20, 1)))  # loads what is loaded on first use
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        load = replace(case.load, trace=str(trace))
        with loading(load, server) as live:
            live.wait_for("connected", PATIENCE)
            live.go_on()
            live.wait_for("warm", PATIENCE)
            begun = time.monotonic_ns()
            live.go_on()
            time.sleep(case.storm.before)
            before = begun, time.monotonic_ns()
            storms = []
            for _ in range(case.storm.storms):
                storms.append(absent.come_back(case.storm))
                time.sleep(PAUSE)
            live.enough()
            published = live.wait_for("published", PATIENCE)
        deliveries = read_trace(trace)
    complete = published["complete"] and all(whole for _, whole in storms)
    facts = compared(deliveries, before, [window for window, _ in storms])
    return facts | {"complete": complete, "error": None if complete else _why(published, storms)}


def in_memory(case: Case) -> Facts:
    """Measure one storm in a process of its own, without a network."""
    assert case.storm is not None
    words = {**asdict(case.storm), "live": case.load.subscribers, "rate": case.load.rate}
    command = [sys.executable, "-m", "benchmarks.crowd", json.dumps(words)]
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, capture_output=True, text=True, timeout=IN_MEMORY_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"the storm in memory was not over within {IN_MEMORY_PATIENCE:g} s") from error
    if done.returncode:
        raise CannotMeasure(f"the storm in memory failed: {' '.join(done.stderr.split())[-300:]}")
    said = json.loads(done.stdout)
    facts = compared(said["deliveries"], said["before"], [said["during"]])
    return facts | {"complete": said["complete"], "error": said["error"]}


def compared(deliveries: Sequence[tuple[int, int]], before: Window, storms: Sequence[Window]) -> Facts:
    """Return what the windows were like for whoever was sent messages, beside what it was before."""
    quiet = _percentile(_within(deliveries, before))
    busy = [latency for window in storms for latency in _within(deliveries, window)]
    during = _percentile(busy)
    if math.inf in (quiet, during):
        raise CannotMeasure("there were no live messages before the storms or while they lasted")
    return {
        "p99_before_ms": quiet / 1e6,
        "p99_during_ms": during / 1e6,
        "p99_ratio": during / quiet if quiet else math.inf,
        "max_during_ms": max(busy, default=math.inf) / 1e6,
        "storm_seconds": median((until - since) / 1e9 for since, until in storms),
        "live_deliveries": len(busy),
    }


def _within(deliveries: Iterable[tuple[int, int]], window: Window) -> list[int]:
    """Latencies of what was under way at some time in the window."""
    since, until = window
    return [latency for due, latency in deliveries if due <= until and due + latency >= since]


def _percentile(latencies: list[int], share: float = 0.99) -> float:
    return sorted(latencies)[int(share * len(latencies))] if latencies else math.inf


def read_trace(trace: Path) -> list[tuple[int, int]]:
    """Return when each message was due, and how long it took."""
    numbers = array("q", trace.read_bytes())
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _why(published: Facts, storms: Sequence[tuple[Window, bool]]) -> str:
    if not published["complete"]:
        return "not every live message came once and in order"
    failed = sum(1 for _, whole in storms if not whole)
    return f"in {failed} of {len(storms)} storms not every client was given what it missed once and in order"
