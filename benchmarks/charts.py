"""The charts of a run: which figures are drawn, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars import number
from benchmarks.plots import Mark, Row, bar_chart
from benchmarks.results import Results
from benchmarks.targets import OURS, TITLES


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: the file it becomes, what it says, and the value of each server; the best stands on top."""

    file: str
    case: str
    title: str
    note: str
    value: Callable[[Results, str], float | None]
    unit: str = ""
    most_first: bool = False
    mark: Mark | None = None

    def rows(self, results: Results) -> list[Row]:
        """Return the bars, without servers that delivered not everything."""
        found = [
            (name, value) for name in results.targets(self.case) if (value := self.value(results, name)) is not None
        ]
        found = [(name, value) for name, value in found if not (self.mark and name == "floor")]
        found.sort(key=lambda pair: pair[1], reverse=self.most_first)
        return [Row(TITLES[name], value, f"{number(value)}{self.unit}", name == OURS) for name, value in found]


def _over_floor(case: str) -> Callable[[Results, str], float | None]:
    return lambda results, name: results.ratio("deliveries_per_second", (case, name), (case, "floor"))


def _median(case: str, fact: str, scale: float = 1.0) -> Callable[[Results, str], float | None]:
    def value(results: Results, name: str) -> float | None:
        found = results.median(case, name, fact)
        return None if found is None else found * scale

    return value


FLOOR = Mark(1.0, "the floor")
_HIGHER = "deliveries a second over those of a bare loop in C, of the same round; higher is better"

CHARTS = (
    Chart(
        "one-publisher.svg",
        "one-publisher",
        "One publisher, 1,000 subscribers, 64 B",
        _HIGHER,
        _over_floor("one-publisher"),
        "×",
        True,
        FLOOR,
    ),
    Chart(
        "sixteen-publishers.svg",
        "sixteen-publishers",
        "16 publishers, 1,000 subscribers, 64 B",
        _HIGHER,
        _over_floor("sixteen-publishers"),
        "×",
        True,
        FLOOR,
    ),
    Chart(
        "cpu.svg",
        "one-publisher",
        "CPU per delivery: one publisher, 1,000 subscribers",
        "microseconds of the server's processes, user and system; lower is better",
        _median("one-publisher", "cpu_per_delivery_us"),
        " µs",
    ),
    Chart(
        "isolation.svg",
        "isolation",
        "p99 of 500 readers beside 200 that never read, 16 KB",
        "milliseconds from publish to read; who stopped delivering is not drawn; lower is better",
        _median("isolation", "p99_ms"),
        " ms",
    ),
    Chart(
        "growth.svg",
        "isolation",
        "What 200 that never read cost in memory, within seconds",
        "MB that the server's memory grew by at its peak; who stopped delivering is not drawn; lower is better",
        _median("isolation", "rss_growth", 1e-6),
        " MB",
    ),
    Chart(
        "idle.svg",
        "connects",
        "Memory per idle connection",
        "KB of the server's memory for each of 5,000 idle WebSockets; lower is better",
        _median("connects", "rss_per_connection", 1 / 1024),
        " KB",
    ),
)


@dataclass(frozen=True, slots=True)
class Storms:
    """A chart of what others that come do to those who stay: the p99 before and during each case, and its name."""

    file: str
    title: str
    note: str
    cases: Mapping[str, str]
    mark: Mark | None = None

    def rows(self, results: Results) -> list[Row]:
        """Return the bars, in the order of time."""
        found = []
        for case, crowd in self.cases.items():
            for fact, when in (("p99_before_ms", "before"), ("p99_during_ms", "while")):
                value = results.median(case, OURS, fact)
                if value is not None:
                    found.append(Row(f"{when} {crowd}", value, f"{number(value)} ms", when == "while"))
        return found


STORMS = (
    Storms(
        "storms.svg",
        "p99 of live messages while others come back",
        "milliseconds from when a message was due until it was read; 50 clients, 200 messages a second",
        {"storm": "1,000 come back", "storm-in-memory": "10,000, in memory"},
    ),
    Storms(
        "arrivals.svg",
        "p99 of messages while 1,000 join, and members are told",
        "milliseconds from when a message was due until it was read; 200 members, 50 messages a second",
        {"presence-joins": "1,000 join", "presence-joins-asking": "1,000 who ask join"},
    ),
)


def draw(results: Results, folder: Path) -> Iterator[Chart | Storms]:
    """Write a file for each chart that has something to show, and yield those charts."""
    folder.mkdir(parents=True, exist_ok=True)
    for chart in (*CHARTS, *STORMS):
        rows = chart.rows(results)
        if rows:
            (folder / chart.file).write_text(bar_chart(chart.title, chart.note, rows, chart.mark))
            yield chart
