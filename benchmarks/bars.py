"""The bars: what the project promises itself, and whether a run holds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import GRACE, LOG_BYTES, STALLED, STALLED_AT_EXIT
from benchmarks.results import Results
from benchmarks.targets import ALL_OURS, OURS, PAIR, PEER_NAMES, WORKERS

KIB = 1024
MB = 1e6
UNBEATEN = "socketify"  # writes once per turn of its event loop, in C++; the one peer not aimed at


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise. `value` is None when the run has not measured it."""

    case: str
    text: str
    limit: float
    value: Callable[[Results], float | None]
    at_least: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


def _over(fact: str, case: str, target: str, under_case: str | None = None) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(fact, (case, OURS), (under_case or case, target))


def _joined(fact: str, case: str, target: str) -> Callable[[Results], float | None]:
    """Several processes over one."""
    return lambda results: results.ratio(fact, (case, target), (case, OURS))


def _ahead_of_peers(results: Results) -> float | None:
    """Ours over the best of the peers, round by round."""
    case, fact = "sixteen-publishers", "deliveries_per_second"
    peers = [results.values(case, name, fact) for name in PEER_NAMES if name != UNBEATEN]
    ratios = []
    for number, ours in results.values(case, OURS, fact).items():
        best = max((values[number] for values in peers if number in values), default=0.0)
        if best:
            ratios.append(ours / best)
    return median(ratios) if ratios else None


def _all_behind(results: Results, case: str, stalled: int) -> bool:
    behind = results.values(case, OURS, "behind_least").values()
    return bool(behind) and min(behind) >= _sized(results, stalled)


def _sized(results: Results, count: int) -> int:
    """A quick run has a tenth of everything."""
    return count // 10 if results.quick else count


def _isolation(results: Results) -> float | None:
    """Only a run counts in which every receipt said that all the stalled were behind."""
    if not _all_behind(results, "isolation", STALLED):
        return None
    return results.ratio("p99_ms", ("isolation", OURS), ("nobody-stalled", OURS))


def _per_stalled(results: Results) -> float | None:
    growth = results.median("memory", OURS, "rss_growth")
    if growth is None or not _all_behind(results, "memory", STALLED):
        return None
    return max(growth - LOG_BYTES, 0.0) / _sized(results, STALLED) / KIB


def _per_idle(results: Results) -> float | None:
    found = results.median("connects", OURS, "rss_per_connection")
    return None if found is None else found / KIB


def _exit(results: Results) -> float | None:
    """The slowest exit; a wrong exit code or none at all is never fast enough."""
    found = [one.facts for one in results.of("sigterm", OURS) if "exit_seconds" in one.facts]
    if not found or not _all_behind(results, "sigterm", STALLED_AT_EXIT):
        return None
    return max(facts["exit_seconds"] if facts["exit_code"] == 0 else math.inf for facts in found)


def _delivered(case: str) -> Callable[[Results], float | None]:
    """Of the worst round, in per cent; with any message twice, out of order or replaced by a gap it counts nothing."""

    def value(results: Results) -> float | None:
        rounds = results.of(case, OURS)
        if not rounds:
            return None
        return min(100.0 * one.facts["delivered"] if one.facts.get("complete") else 0.0 for one in rounds)

    return value


def _recovered(case: str) -> Callable[[Results], float | None]:
    """In per cent of the rounds; it is all of the clients or not."""

    def value(results: Results) -> float | None:
        rounds = results.of(case, OURS)
        return 100.0 * sum(bool(one.facts.get("complete")) for one in rounds) / len(rounds) if rounds else None

    return value


def _median(case: str, fact: str, scale: float = 1.0) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        found = results.median(case, OURS, fact)
        return None if found is None else found * scale

    return value


def _events_over_websocket(fact: str) -> Callable[[Results], float | None]:
    return _over(fact, "fan-out-sse", OURS, "fan-out-websocket")


ONE, MANY = "one-publisher", "sixteen-publishers"
JOINS, ASKING, GATHERED = "presence-joins", "presence-joins-asking", "events_over_allowed"
BARS = (
    Bar(ONE, "deliveries a second over the floor's", 0.75, _over("deliveries_per_second", ONE, "floor"), True),
    Bar(ONE, "CPU per delivery over the floor's", 1.5, _over("cpu_per_delivery_us", ONE, "floor")),
    Bar(ONE, "p50 over the floor's", 1.5, _over("p50_ms", ONE, "floor")),
    Bar(MANY, "deliveries a second over the floor's with 16", 4, _over("deliveries_per_second", MANY, "floor"), True),
    Bar(MANY, "p50 over the floor's with 16", 1, _over("p50_ms", MANY, "floor")),
    Bar(MANY, "deliveries a second over the best peer's but uWebSockets", 1, _ahead_of_peers, True),
    Bar(ONE, "CPU per delivery over Django Channels on daphne", 1 / 30, _over("cpu_per_delivery_us", ONE, "channels")),
    Bar(
        "publishes-http",
        "publishes a second over HTTP, over the bare application's",
        0.8,
        _over("publishes_per_second", "publishes-http", "bare"),
        True,
    ),
    Bar(
        "publishes-websocket",
        "publishes a second over one WebSocket, over 16 HTTP connections",
        5,
        _over("publishes_per_second", "publishes-websocket", OURS, "publishes-http"),
        True,
    ),
    Bar("isolation", "p99 of 500 readers, with 200 stalled over without", 1.3, _isolation),
    Bar("memory", "RSS per stalled client beyond the log", 64, _per_stalled, unit=" KB"),
    Bar(
        "connects",
        "CPU per WebSocket connect over the bare application's",
        1.5,
        _over("cpu_per_connect_us", "connects", "bare"),
    ),
    Bar("connects", "RSS per idle connection", 40, _per_idle, unit=" KB"),
    Bar("sigterm", f"gone after SIGTERM with exit 0 (grace {GRACE:g} s + 1 s)", GRACE + 1, _exit, unit=" s"),
    Bar("jitter", "delivered to 200 clients, in order, none twice, no gap", 100, _delivered("jitter"), True, " %"),
    Bar("jitter-virtual", "the same to 1,000 in memory", 100, _delivered("jitter-virtual"), True, " %"),
    Bar("storm", "rounds in which 1,000 clients were given all they missed", 100, _recovered("storm"), True, " %"),
    Bar("storm", "p99 of live messages during the storm over before", 3, _median("storm", "p99_ratio")),
    Bar("storm-in-memory", "the same of 10,000 in memory", 100, _recovered("storm-in-memory"), True, " %"),
    Bar("storm-in-memory", "p99 during the storm over before", 3, _median("storm-in-memory", "p99_ratio")),
    Bar(JOINS, "rounds in which each member was told exactly once of each", 100, _recovered(JOINS), True, " %"),
    Bar(JOINS, "events for a member, over one for each second of joining", 1, _median(JOINS, GATHERED)),
    Bar(JOINS, "p99 of messages while 1,000 join over before", 3, _median(JOINS, "p99_ratio")),
    Bar(ASKING, "rounds in which each member was told exactly once of each", 100, _recovered(ASKING), True, " %"),
    Bar(ASKING, "events for a member, over one for each second of joining", 1, _median(ASKING, GATHERED)),
    Bar(ASKING, "p99 of messages while 1,000 join over before", 3, _median(ASKING, "p99_ratio")),
    Bar(
        "joins-no-presence",
        "CPU per delivery over that without presence",
        1.03,
        _median("joins-no-presence", "cpu_per_delivery_us_ratio"),
    ),
    Bar(
        "joins-no-presence",
        "CPU per join over that without presence",
        1.03,
        _median("joins-no-presence", "cpu_per_connect_us_ratio"),
    ),
    Bar(
        "fan-out-sse",
        "deliveries a second over those of WebSockets",
        0.9,
        _events_over_websocket("deliveries_per_second"),
        True,
    ),
    Bar("fan-out-sse", "CPU per delivery over that of WebSockets", 1.15, _events_over_websocket("cpu_per_delivery_us")),
    Bar(
        "workers-fan-out",
        "CPU per delivery with 2 workers and their Valkey, over one process",
        1.15,
        _joined("cpu_per_delivery_us", "workers-fan-out", WORKERS),
    ),
    Bar("across", "p50 across two processes over inside one", 3, _joined("p50_ms", "across", PAIR)),
    Bar(
        "workers-publishes",
        "publishes a second to two servers on Valkey, over one process",
        0.6,
        _joined("publishes_per_second", "workers-publishes", PAIR),
        True,
    ),
    Bar(
        "million",
        "RSS after 1,000,000 messages over after 10,000",
        2,
        _median("million", "rss_kept", 1 / MB),
        unit=" MB",
    ),
    Bar(
        "million-to-nobody",
        "the same without subscribers",
        2,
        _median("million-to-nobody", "rss_kept", 1 / MB),
        unit=" MB",
    ),
)


def table(results: Results) -> Iterator[str]:
    """Yield the bars as lines of a Markdown table."""
    yield "| case | what | bar | measured | |"
    yield "| --- | --- | --- | --- | --- |"
    for bar in BARS:
        value = bar.value(results)
        verdict = "not measured" if value is None else "**pass**" if bar.holds(value) else "miss"
        sign = "≥" if bar.at_least else "≤"
        shown = "–" if value is None else f"{number(value)}{bar.unit}"
        yield f"| {bar.case} | {bar.text} | {sign} {number(bar.limit)}{bar.unit} | {shown} | {verdict} |"
    missing = sum(1 for name in ALL_OURS for _ in results.incomplete(name))
    measured = sum(1 for one in results.measurements if one.target in ALL_OURS)
    verdict = "**pass**" if measured and not missing else "miss"
    came = f"{measured - missing} of {measured}"
    yield f"| every case | runs in which every message came, once and in order | all | {came} | {verdict} |"


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if math.isinf(value):
        return "never"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
