"""Writes RESULTS.md: the machine, the bars, a table for each case, the charts, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import bars
from benchmarks.bars import number
from benchmarks.cases import CASES, Case, Way
from benchmarks.charts import draw
from benchmarks.results import Results
from benchmarks.targets import TITLES

FOLDER = "results"

Column = tuple[str, str, Callable[[float], str]]
DELIVERING: tuple[Column, ...] = (
    ("deliveries/s", "deliveries_per_second", number),
    ("p50 ms", "p50_ms", number),
    ("p99 ms", "p99_ms", number),
    ("CPU µs per delivery", "cpu_per_delivery_us", number),
    ("load client busy", "client_busy", lambda value: f"{value:.0%}"),
    ("memory grew by", "rss_growth", lambda value: f"{value / 1e6:.1f} MB"),
)
PUBLISHING: tuple[Column, ...] = (
    ("publishes/s", "publishes_per_second", number),
    ("CPU µs per publish", "cpu_per_publish_us", number),
    ("p50 ms", "p50_ms", lambda value: number(value) if value else "–"),
)
CONNECTING: tuple[Column, ...] = (
    ("connects/s", "connects_per_second", number),
    ("CPU µs per connect", "cpu_per_connect_us", number),
    ("memory per connection", "rss_per_connection", lambda value: f"{value / 1024:.1f} KB"),
)
JITTERING: tuple[Column, ...] = (
    ("delivered", "delivered", lambda value: f"{value:.2%}"),
    ("cuts", "cuts", lambda value: f"{value:.0f}"),
)
STORMING: tuple[Column, ...] = (
    ("p99 ms before", "p99_before_ms", number),
    ("p99 ms during", "p99_during_ms", number),
    ("during over before", "p99_ratio", number),
    ("slowest ms", "max_during_ms", number),
    ("seconds until all had recovered", "storm_seconds", number),
)
ARRIVING: tuple[Column, ...] = (
    ("events for a member", "events_per_member", number),
    ("at most", "events_most", lambda value: f"{value:.0f}"),
    ("seconds until all had joined", "join_seconds", number),
    ("until all were told", "storm_seconds", number),
    *STORMING[:4],
)
COSTING: tuple[Column, ...] = (
    ("CPU µs per delivery", "cpu_per_delivery_us", number),
    ("without presence", "other_cpu_per_delivery_us", number),
    ("CPU µs per join", "cpu_per_connect_us", number),
    ("without presence", "other_cpu_per_connect_us", number),
)
KEEPING: tuple[Column, ...] = (
    ("publishes/s", "publishes_per_second", number),
    ("memory grew by, at its peak", "rss_growth", lambda value: f"{value / 1e6:.1f} MB"),
    ("and in the end", "rss_kept", lambda value: f"{value / 1e6:.1f} MB"),
)
STOPPING: tuple[Column, ...] = (
    ("seconds to the exit", "exit_seconds", number),
    ("exit code", "exit_code", lambda value: f"{value:.0f}"),
)


_STORE_DELIVERING: Column = ("of it Valkey's", "store_cpu_per_delivery_us", number)
_STORE_PUBLISHING: Column = ("of it Valkey's", "store_cpu_per_publish_us", number)


def write(results: Results, folder: Path) -> Path:
    """Write RESULTS.md and its charts into `folder`; returns where it is."""
    path = folder / "RESULTS.md"
    path.write_text("\n".join(_lines(results, folder)) + "\n")
    return path


def _lines(results: Results, folder: Path) -> Iterator[str]:
    yield "# Results"
    yield ""
    yield "Made by `nox -s benchmark`; do not edit. [README.md](README.md) says how it measures,"
    yield f"[{FOLDER}/results.json]({FOLDER}/results.json) has every single figure."
    if results.quick:
        yield "\n**This was a quick run: it shows that every case works and says nothing about speed.**"
    yield from _machine(results)
    yield from ("", "## The bars", "")
    yield f"Rounds: {results.rounds}. Figures are medians over the rounds, ratios are taken within each.\n"
    yield from bars.table(results)
    yield from ("", "## At a glance", "")
    for chart in draw(results, folder / FOLDER):
        yield f"![{chart.title}]({FOLDER}/{chart.file})\n"
    yield "## Case by case"
    for case in CASES:
        if results.targets(case.name):
            yield from _case(results, case)
    yield from _problems(results)


def _machine(results: Results) -> Iterator[str]:
    yield from ("", "## The machine", "", "| | |", "| --- | --- |")
    for name, value in results.machine.items():
        yield f"| {name} | {value} |"
    for name, value in results.versions.items():
        yield f"| {TITLES[name]} | {value} |"
    for name, why in results.left_out.items():
        yield f"| {TITLES[name]} | left out: {_cell(why)} |"


BY_WAY = {
    Way.JITTER: JITTERING,
    Way.JITTER_VIRTUAL: JITTERING,
    Way.STORM: STORMING,
    Way.STORM_IN_MEMORY: STORMING,
    Way.ARRIVALS: ARRIVING,
    Way.AGAINST: COSTING,
}


def _columns(case: Case) -> tuple[Column, ...]:
    if case.way in BY_WAY:
        return BY_WAY[case.way]
    if case.terminate:
        return STOPPING
    if case.kept:
        return KEEPING
    if "publishes" in case.name:
        return (*PUBLISHING, _STORE_PUBLISHING) if case.beside else PUBLISHING
    if case.beside:
        return (*DELIVERING, _STORE_DELIVERING)
    return DELIVERING if case.load.messages else CONNECTING


def _case(results: Results, case: Case) -> Iterator[str]:
    columns = _columns(case)
    yield from ("", f"### {case.title}", "", f"`{case.name}`: {case.what}", "")
    if case.name in results.added:
        yield from (f"Measured in a run of its own: {results.added[case.name]}.", "")
    heads = [*(head for head, _, _ in columns), *(["over the floor's"] if case.floor else [])]
    yield f"| | {' | '.join(heads)} | |"
    yield f"| --- |{' ---: |' * len(heads)} --- |"
    for name in results.targets(case.name):
        cells = [_shown(results.median(case.name, name, fact), form) for _, fact, form in columns]
        if case.floor:
            cells.append(
                _shown(results.ratio("deliveries_per_second", (case.name, name), (case.name, "floor")), number)
            )
        yield f"| {TITLES[name]} | {' | '.join(cells)} | {_remarks(results, case, name)} |"


def _shown(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)


def _remarks(results: Results, case: Case, name: str) -> str:
    measured = results.of(case.name, name)
    failed = [one for one in measured if not one.facts.get("complete")]
    remarks = [f"failed {len(failed)} of {len(measured)}"] if failed else []
    behind = results.median(case.name, name, "behind_least")
    if case.load.stalled and behind is not None and behind >= 0:
        remarks.append(f"receipts: {behind:.0f} behind or more")
    if any(one.facts.get("complete") and not one.facts.get("one_order", True) for one in measured):
        remarks.append("not the same order for all")
    return "; ".join(remarks)


def _problems(results: Results) -> Iterator[str]:
    failed = [one for one in results.measurements if one.facts.get("error")]
    if not failed:
        return
    yield from ("", "## What failed", "", "Such a round is in no figure above.", "")
    yield from ("| case | server | round | why |", "| --- | --- | --- | --- |")
    for one in failed:
        yield f"| {one.case} | {TITLES[one.target]} | {one.round} | {_cell(one.facts['error'])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
