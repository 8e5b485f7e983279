"""Clients that all join a group at once, while its members are sent messages and told who is there.

The figures are how many events of presence a member gets for them all, and the p99 of its messages meanwhile, beside
that before. Whether each member was told of each client exactly once is checked in what it was sent, byte for byte.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.cases import Case, Storm
from benchmarks.client import Load, loading
from benchmarks.server import Server
from benchmarks.storm import PATIENCE, Facts, compared, read_trace

TOLD_WITHIN = 2.5  # seconds after the last join, or leave, by which everybody must have been told of it
LONGEST = 1.0  # seconds of changes that are told together at most
FOREVER = 1_000_000_000  # messages: so long do those who join go on reading
HEAD = Struct("=qqq")

Window = tuple[int, int]


@dataclass(slots=True)
class Arrivals:
    """One crowd: when it began to join and when all had, and until when what is told is about it."""

    begun: int
    joined: int
    over: int = 0


@dataclass(slots=True)
class Told:
    """What one member was told of one crowd: how many events, of whom, and when it was told of the last that joined."""

    events: int = 0
    joined: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    last: int = 0

    def take(self, at: int, presence: Any) -> None:
        """Count an event."""
        if presence == "reset":
            self.resets += 1
            return
        if "joined" in presence:
            self.events += 1
            self.last = at
        self.joined.update(member["client"] for member in presence.get("joined", ()))
        self.left.update(departed["client"] for departed in presence.get("left", ()))

    def is_exact(self, clients: int) -> bool:
        """Whether it was told once of each that came, and once that it went."""
        once = len(self.joined) == self.joined.total() == clients
        return once and self.left == self.joined and not self.resets


def real(case: Case, server: Server) -> Facts:
    """Let crowds join on `server`, one after another."""
    assert case.storm is not None
    with TemporaryDirectory() as folder:
        trace, record = Path(folder) / "trace", Path(folder) / "record"
        load = replace(case.load, trace=str(trace), record=str(record))
        with loading(load, server) as members:
            members.wait_for("connected", PATIENCE)
            _come_and_go(server, case, max(case.storm.clients // 20, 1))  # loads what is loaded on first use
            members.go_on()
            members.wait_for("warm", PATIENCE)
            begun = time.monotonic_ns()
            members.go_on()
            time.sleep(case.storm.before)
            before = begun, time.monotonic_ns()
            crowds = [_come_and_go(server, case, case.storm.clients) for _ in range(case.storm.storms)]
            members.enough()
            published = members.wait_for("published", PATIENCE)
        told = [[Told() for _ in range(load.subscribers)] for _ in crowds]
        for at, index, presence in _presence(record):
            for crowd, each in zip(crowds, told, strict=True):
                if crowd.begun <= at < crowd.over:
                    each[index].take(at, presence)
        return _facts(case.storm, published, read_trace(trace), before, crowds, told)


def _come_and_go(server: Server, case: Case, clients: int) -> Arrivals:
    """Let so many clients join at once, stay until everybody must know, and be gone."""
    assert case.storm is not None
    query = "?format=json&presence=1" if case.storm.asking else ""
    path = f"/ws/{case.load.publish_path.rpartition('/')[2]}{query}"
    load = Load(
        subscribers=clients,
        at_once=clients,
        publishers=0,
        json=case.storm.asking,
        expect=FOREVER // clients,
        patience=PATIENCE,
        path=path,
    )
    with loading(load, server) as crowd:
        crowd.wait_for("ready", PATIENCE)
        begun = time.monotonic_ns()
        crowd.go_on()
        crowd.wait_for("connected", PATIENCE)
        crowd.go_on()
        arrivals = Arrivals(begun, time.monotonic_ns())
        time.sleep(TOLD_WITHIN)
    time.sleep(TOLD_WITHIN)
    arrivals.over = time.monotonic_ns()
    return arrivals


def _facts(
    storm: Storm,
    published: Facts,
    deliveries: Sequence[tuple[int, int]],
    before: Window,
    crowds: Sequence[Arrivals],
    told: Sequence[Sequence[Told]],
) -> Facts:
    inexact = sum(not each.is_exact(storm.clients) for members in told for each in members)
    complete = published["complete"] and not inexact
    windows = [(crowd.begun, max(each.last for each in members)) for crowd, members in zip(crowds, told, strict=True)]
    facts = compared(deliveries, before, windows)
    events = [each.events for members in told for each in members]
    allowed = [math.ceil((crowd.joined - crowd.begun) / 1e9 / LONGEST) for crowd in crowds]
    most = [max(each.events for each in members) for members in told]
    return facts | {
        "events_per_member": sum(events) / len(events),
        "events_most": max(events),
        "events_over_allowed": max(count / each for count, each in zip(most, allowed, strict=True)),
        "join_seconds": sum(crowd.joined - crowd.begun for crowd in crowds) / len(crowds) / 1e9,
        "complete": complete,
        "error": None if complete else _why(published, inexact, len(events)),
    }


def _why(published: Facts, inexact: int, members: int) -> str:
    if not published["complete"]:
        return "not every message came once and in order"
    return f"{inexact} of {members} times a member was not told exactly once of each that came and went"


def _presence(record: Path) -> Iterator[tuple[int, int, Any]]:
    """Yield when which member was told what of who is there."""
    data = record.read_bytes()
    streams: dict[int, bytearray] = {}
    at = 0
    while at < len(data):
        when, index, length = HEAD.unpack_from(data, at)
        at += HEAD.size + length
        stream = streams.setdefault(index, bytearray())
        stream += data[at - length : at]
        for payload in _frames(stream):
            if b'"presence":' in payload[:200]:
                yield when, index, msgspec.json.decode(payload)["presence"]


def _frames(stream: bytearray) -> Iterator[bytes]:
    """Take whole frames, as a server sends them, from the beginning of `stream`."""
    while len(stream) >= 2:
        code = stream[1]
        extra = {126: 2, 127: 8}.get(code, 0)
        size = int.from_bytes(stream[2 : 2 + extra]) if extra else code
        end = 2 + extra + size
        if len(stream) < 2 + extra or len(stream) < end:
            return
        yield bytes(stream[2 + extra : end])
        del stream[:end]
