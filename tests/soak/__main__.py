"""Runs soaks: python -m tests.soak CASE [seconds], or without a case all of them. Exits with 1 if one went wrong."""

from __future__ import annotations

import sys
from dataclasses import replace

import trio

from tests.soak.cases import CASES, Plan
from tests.soak.machines import NotAllowed, machines

ALL = {**CASES, "machines": machines}
SECONDS = 60.0
LOSES = frozenset({"emptied", "failover"})  # where the store has lost something, being told of it is all there can be
FAULTS = {"workers": 12, "embedded": 6, "rolling": 3, "machines": 3}


def main(words: list[str]) -> int:
    names = [word for word in words if word in ALL] or list(ALL)
    seconds = next((float(word) for word in words if word not in ALL), SECONDS)
    good = True
    for name in names:
        faults = FAULTS.get(name, 4)
        plan = replace(Plan(), faults=faults, between=seconds / (faults + 1))
        try:
            outcome = trio.run(ALL[name], plan)
        except NotAllowed as error:
            print(f"{name}: not here: {error}", flush=True)
            continue
        print(outcome, flush=True)
        good &= outcome.verdict.honest if name in LOSES else outcome.verdict.spotless
        good &= not outcome.load.not_connected
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
