"""What was measured, kept as JSON, and what is made of it: medians, and medians of ratios within a round."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case on one server in one round."""

    case: str
    target: str
    round: int
    facts: dict[str, Any]


@dataclass(slots=True)
class Results:
    """A whole run: the machine, what was measured with which versions, and who was left out and why."""

    machine: dict[str, str]
    rounds: int
    quick: bool
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    added: dict[str, str] = field(default_factory=dict)
    """Cases that were measured in another run than the rest, and in which."""

    def without(self, cases: Collection[str]) -> list[Measurement]:
        """The measurements of all other cases."""
        return [one for one in self.measurements if one.case not in cases]

    def of(self, case: str, target: str) -> list[Measurement]:
        """The measurements of a case on a server, in the order of the rounds."""
        return [one for one in self.measurements if (one.case, one.target) == (case, target)]

    def targets(self, case: str) -> list[str]:
        """Who was measured in a case, in the order they ran."""
        return list(dict.fromkeys(one.target for one in self.measurements if one.case == case))

    def values(self, case: str, target: str, fact: str) -> dict[int, float]:
        """One fact by round, of the rounds in which every message came."""
        found = ((one.round, one.facts) for one in self.of(case, target))
        return {number: facts[fact] for number, facts in found if facts.get("complete") and facts.get(fact) is not None}

    def median(self, case: str, target: str, fact: str) -> float | None:
        """The median of one fact over the rounds, None if it was never measured."""
        values = self.values(case, target, fact).values()
        return median(values) if values else None

    def ratio(self, fact: str, over: tuple[str, str], under: tuple[str, str]) -> float | None:
        """The median of `over` / `under`, each a case and a server, both of the same round."""
        below = self.values(*under, fact)
        ratios = [value / below[number] for number, value in self.values(*over, fact).items() if below.get(number)]
        return median(ratios) if ratios else None

    def incomplete(self, target: str) -> Iterator[Measurement]:
        """The measurements of a server in which not everything came."""
        return (one for one in self.measurements if one.target == target and not one.facts.get("complete"))


def save(results: Results, path: Path) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")


def load(path: Path) -> Results:
    """Read what `save` wrote."""
    raw = json.loads(path.read_text())
    raw["measurements"] = [Measurement(**one) for one in raw["measurements"]]
    return Results(**raw)
