"""Runs the benchmark: every case on every server in turn, round after round, and writes what came of it.

Started by `nox -s benchmark`, or by `python -m benchmarks.run` where Triocast is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import machine, report, results
from benchmarks.bars import number, table
from benchmarks.build import BUILD, HERE, CannotMeasure, compile_all, say
from benchmarks.cases import CASES, Case, Peers
from benchmarks.measure import Facts, measure
from benchmarks.results import Measurement, Results
from benchmarks.targets import ALL_OURS, OURS, PEER_NAMES, TARGETS, Ready, Target

ROUNDS = 5


def main(words: Sequence[str]) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _options(words)
    folder = BUILD / "quick" if options.quick else HERE
    file = folder / report.FOLDER / "results.json"
    try:
        found = results.load(file) if options.report else _measure_all(options, file)
    except (CannotMeasure, FileNotFoundError) as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 1
    say()
    for line in table(found):
        say(line)
    say(f"\nwritten: {report.write(found, folder)}")
    return 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.run", description="Measure Triocast beside its peers and a floor in C."
    )
    parser.add_argument("--rounds", type=int, help=f"rounds, the servers in turn in each (default {ROUNDS}; quick: 1)")
    parser.add_argument(
        "--only", metavar="CASE", action="append", choices=[case.name for case in CASES], help="repeatable"
    )
    parser.add_argument(
        "--peers", metavar="A,B", help=f"of {', '.join(PEER_NAMES)}; an empty text for none (default all)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, into build/quick: does it work?")
    parser.add_argument(
        "--add", action="store_true", help="measure the cases of --only, and keep what there is of the others"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report anew")
    options = parser.parse_args(words)
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.peers = tuple(filter(None, options.peers.split(","))) if options.peers is not None else PEER_NAMES
    if unknown := set(options.peers) - set(PEER_NAMES):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return options


def _measure_all(options: argparse.Namespace, file: Path) -> Results:
    compile_all()
    machine.allow_many_files()
    cases = [case for case in CASES if options.only is None or case.name in options.only]
    cases = [case.quick() for case in cases] if options.quick else cases
    found = Results(machine.describe(), options.rounds, options.quick)
    ready = _prepare(cases, options.peers, found)
    if options.add:
        found = _added_to(results.load(file), cases, found)
    plan = list(_plan(cases, options.rounds, ready))
    for count, (number_of_round, case, target) in enumerate(plan, 1):
        facts = measure(case, target, ready[target.name])
        found.measurements.append(Measurement(case.name, target.name, number_of_round, facts))
        results.save(found, file)
        say(f"[{count}/{len(plan)}] {case.name}, round {number_of_round}, {target.name}: {_summary(facts)}")
    return found


def _added_to(before: Results, cases: Sequence[Case], now: Results) -> Results:
    """Return the results of another run without those of `cases`, which are said to be measured now."""
    names = [case.name for case in cases]
    before.measurements = before.without(names)
    rounds = f"{now.rounds} round{'s' if now.rounds > 1 else ''}"
    run = f"{rounds} on {now.machine['date']}, {now.versions.get(OURS, '')}, {now.machine['Python']}"
    before.added |= dict.fromkeys(names, run)
    before.versions = {**now.versions, **before.versions}
    return before


def _prepare(cases: Sequence[Case], peers: Sequence[str], found: Results) -> dict[str, Ready]:
    """Install what is needed; a server that cannot be had is said, written down and left out."""
    ready = {}
    for target in TARGETS:
        if not any(_takes_part(target, case, 1) for case in cases) or (
            target.name in PEER_NAMES and target.name not in peers
        ):
            continue
        say(f"preparing {target.name}")
        try:
            ready[target.name] = target.prepare()
        except CannotMeasure as error:
            say(f"  left out: {error}")
            found.left_out[target.name] = str(error)
        else:
            found.versions[target.name] = ready[target.name].versions
    return ready


def _plan(cases: Sequence[Case], rounds: int, ready: dict[str, Ready]) -> Iterator[tuple[int, Case, Target]]:
    """Go through all cases in each round, and in each case through the servers in turn."""
    targets = [target for target in TARGETS if target.name in ready]
    for number_of_round in range(1, rounds + 1):
        for case in cases:
            for target in targets:
                if _takes_part(target, case, number_of_round):
                    yield number_of_round, case, target


def _takes_part(target: Target, case: Case, number_of_round: int) -> bool:
    if target.name == OURS:
        return number_of_round == 1 or not case.once
    if target.name in ALL_OURS:
        return target.name in case.beside
    if target.name == "floor":
        return case.floor
    if target.name == "bare":
        return case.bare
    return case.peers is Peers.ALWAYS or (case.peers is Peers.ONCE and number_of_round == 1)


def _summary(facts: Facts) -> str:
    if facts.get("error"):
        return f"FAILED: {facts['error']}"
    shown = {
        "deliveries_per_second": "deliveries/s",
        "publishes_per_second": "publishes/s",
        "p50_ms": "ms p50",
        "p99_ms": "ms p99",
        "cpu_per_delivery_us": "µs CPU per delivery",
        "store_cpu_per_delivery_us": "of it Valkey's",
        "exit_seconds": "s to the exit",
        "delivered": "of all delivered",
        "cuts": "cuts",
        "p99_before_ms": "ms p99 before",
        "p99_during_ms": "ms p99 during",
        "p99_ratio": "times that",
        "events_per_member": "events for each member",
        "join_seconds": "s to join",
        "cpu_per_delivery_us_ratio": "of the CPU per delivery",
        "cpu_per_connect_us_ratio": "of the CPU per connect",
        "storm_seconds": "s a storm",
        "rss_kept": "bytes kept",
    }
    if facts.get("messages") == 0:
        shown = {"connects_per_second": "connects/s", "cpu_per_connect_us": "µs CPU per connect"}
    return ", ".join(f"{number(facts[name])} {unit}" for name, unit in shown.items() if facts.get(name))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
