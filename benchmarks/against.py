"""One load on two servers that differ by an option, in turn: what the option costs.

Both run all the time; each pair of turns makes one ratio, and the one that goes first changes with each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.build import CannotMeasure
from benchmarks.client import Load
from benchmarks.server import Server

TURNS = 5
MEASURED = ("cpu_per_delivery_us", "cpu_per_connect_us")

Facts = dict[str, Any]
Run = Callable[[Load, Server], Facts]


def measure_both(load: Load, usual: Server, other: Server, run: Run) -> Facts:
    """Return the facts of the `usual` server, and for each figure the ratio to that of the `other`."""
    pairs = [_turn(load, usual, other, run, swapped=bool(turn % 2)) for turn in range(TURNS)]
    facts: Facts = {"complete": True, "error": None}
    for name in MEASURED:
        facts[name] = median(ours[name] for ours, _ in pairs)
        facts[f"other_{name}"] = median(theirs[name] for _, theirs in pairs)
        facts[f"{name}_ratio"] = median(ours[name] / theirs[name] for ours, theirs in pairs)
    return facts


def _turn(load: Load, usual: Server, other: Server, run: Run, *, swapped: bool) -> Sequence[Facts]:
    servers = [other, usual] if swapped else [usual, other]
    pair = [run(load, server) for server in servers]
    for facts in pair:
        if not facts["complete"]:
            raise CannotMeasure(facts["error"])
    return pair[::-1] if swapped else pair
