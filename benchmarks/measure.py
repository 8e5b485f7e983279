"""Measures one case on one server: starts it, loads it phase by phase, and looks at its processes in between.

Cases that take more than the load client are measured by modules of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from benchmarks import arrivals, jitter, storm
from benchmarks.against import PAIRS, compared, measure_both
from benchmarks.build import CannotMeasure
from benchmarks.cases import Case, Way
from benchmarks.client import Load, loading
from benchmarks.processes import Usage, settle, usage
from benchmarks.server import Server, last_words, running
from benchmarks.targets import Ready, Target

CONNECT_PATIENCE = 300.0
PUBLISH_PATIENCE = 1800.0
END_PATIENCE = 30.0
# Loads what is loaded on first use, before anything is measured.
PRIMER = Load(subscribers=50, messages=10, patience=10.0)
IN_MEMORY = {Way.JITTER_VIRTUAL: jitter.virtual, Way.STORM_IN_MEMORY: storm.in_memory}
ON_A_SERVER = {Way.JITTER: jitter.real, Way.STORM: storm.real, Way.ARRIVALS: arrivals.real}

Facts = dict[str, Any]


@dataclass(slots=True)
class Peak:
    """The most memory seen while something lasted."""

    pid: int
    rss: int = 0

    def look(self) -> None:
        """Look once more."""
        self.rss = max(self.rss, usage(self.pid).rss)


def measure(case: Case, target: Target, ready: Ready) -> Facts:
    """Return what was measured; with an `error` in it if the server or the load failed."""
    if case.way in IN_MEMORY:
        try:
            return IN_MEMORY[case.way](case)
        except CannotMeasure as error:
            return {"error": str(error), "complete": False}
    try:
        if case.way is Way.AGAINST:
            return _against(case, target, ready)
        with running(target, ready, case.options) as server:
            _run(_fitting(replace(PRIMER, sse=case.load.sse), target), server)
            if case.way in ON_A_SERVER:
                return ON_A_SERVER[case.way](case, server)
            load = _fitting(case.load, target)
            return _run(load, server, terminate=case.terminate, kept=case.kept)
    except CannotMeasure as error:
        return {"error": f"{error} {last_words(target.name)}".strip(), "complete": False}


def _against(case: Case, target: Target, ready: Ready) -> Facts:
    pairs = []
    for _ in range(PAIRS):
        with running(target, ready, case.options) as server, running(target, ready, case.against) as other:
            for each in (server, other):
                _run(PRIMER, each)
            pairs += measure_both(case.load, server, other, _run)
    return compared(pairs)


def _fitting(load: Load, target: Target) -> Load:
    """A server that only accepts gets publishes or connections, never both: nothing would come of them."""
    if target.delivers:
        return load
    if load.messages and load != PRIMER:
        return replace(load, subscribers=0)
    return replace(load, messages=0, publishers=0)


def _run(load: Load, server: Server, *, terminate: bool = False, kept: bool = False) -> Facts:
    idle = settle(server.pid)
    with loading(load, server) as client:
        connected = client.wait_for("connected", CONNECT_PATIENCE)
        busy = usage(server.pid)
        quiet = settle(server.pid)
        if load.warmup:
            client.go_on()
            client.wait_for("warm", PUBLISH_PATIENCE)
        begun = settle(server.pid) if kept else None
        before = usage(server.pid)
        peak = Peak(server.pid)
        client.go_on()
        published = client.wait_for("published", PUBLISH_PATIENCE, peak.look)
        peak.look()
        after = usage(server.pid)
        facts = (
            published | _of_connecting(load, connected, idle, busy, quiet) | _of_publishing(published, before, after)
        )
        facts |= {"rss_growth": peak.rss - quiet.rss}
        if begun is not None:
            facts |= {"rss_kept": settle(server.pid).rss - begun.rss}
        if terminate:
            facts |= _of_ending(server)
    facts["error"] = None if facts["complete"] else _why_incomplete(facts)
    return facts


def _of_connecting(load: Load, connected: Facts, idle: Usage, busy: Usage, quiet: Usage) -> Facts:
    count = load.subscribers + load.stalled
    if not count:
        return {}
    return {
        "connects_per_second": connected["connects_per_second"],
        "cpu_per_connect_us": (max(busy.cpu, quiet.cpu) - idle.cpu) / count * 1e6,
        "rss_per_connection": (quiet.rss - idle.rss) / count,
    }


def _of_publishing(published: Facts, before: Usage, after: Usage) -> Facts:
    cpu = after.cpu - before.cpu
    store = after.store - before.store
    facts: Facts = {"cpu": cpu}
    for each, count in (("delivery", published["deliveries"]), ("publish", published["messages"])):
        if count:
            facts[f"cpu_per_{each}_us"] = cpu / count * 1e6
        if count and after.store:
            facts[f"store_cpu_per_{each}_us"] = store / count * 1e6
    if published["seconds"]:
        facts["client_busy"] = published["client_cpu"] / published["seconds"]
    return facts


def _of_ending(server: Server) -> Facts:
    seconds, code = server.terminate(END_PATIENCE)
    return {"exit_seconds": seconds, "exit_code": code}


def _why_incomplete(facts: Facts) -> str:
    counted = ("skipped", "twice", "damaged", "closed", "refused", "lost")
    found = [f"{facts[name]} {name}" for name in counted if facts[name]]
    return "not every message came once and in order: " + (", ".join(found) or "nothing moved any more")
