"""One load on two servers that differ by an option, in turn: what the option costs.

Both run at the same time, and the one that goes first changes with each pair of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from benchmarks.build import CannotMeasure
from benchmarks.client import Load
from benchmarks.server import Server

TURNS = 2  # an even number: each is first as often as the other
PAIRS = 3  # of servers: two processes that do the same differ by some per cent for as long as they live
MEASURED = ("cpu_per_delivery_us", "cpu_per_connect_us")

Facts = dict[str, Any]
Run = Callable[[Load, Server], Facts]


def measure_both(load: Load, usual: Server, other: Server, run: Run) -> list[Sequence[Facts]]:
    """Return the facts of both servers, of each turn."""
    return [_turn(load, usual, other, run, swapped=bool(turn % 2)) for turn in range(TURNS)]


def compared(pairs: Sequence[Sequence[Facts]]) -> Facts:
    """Return the figures of the usual servers, and the ratio of each to that of the others."""
    facts: Facts = {"complete": True, "error": None}
    for name in MEASURED:
        # The means: the CPU of one turn is counted in hundredths of a second, which are too few for one.
        ours, theirs = (mean(pair[side][name] for pair in pairs) for side in (0, 1))
        facts |= {name: ours, f"other_{name}": theirs, f"{name}_ratio": ours / theirs}
    return facts


def _turn(load: Load, usual: Server, other: Server, run: Run, *, swapped: bool) -> Sequence[Facts]:
    servers = [other, usual] if swapped else [usual, other]
    pair = [run(load, server) for server in servers]
    for facts in pair:
        if not facts["complete"]:
            raise CannotMeasure(facts["error"])
    return pair[::-1] if swapped else pair
