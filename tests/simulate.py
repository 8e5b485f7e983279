"""Many long simulations: python -m tests.simulate [how many] [first seed]. A failure prints its seed."""

from __future__ import annotations

import sys
import time

from tests.engines.unkind import UnkindEngine
from tests.simulation import Simulation


def main(count: int = 20, first: int = 1000) -> None:
    for seed in range(first, first + count):
        began = time.monotonic()
        simulation = Simulation(seed, length=120)
        if seed % 4 == 3:
            simulation = Simulation(seed, clients=250, length=120)
            simulation.make_engine = lambda settings, seed=seed: UnkindEngine(settings, seed)  # type: ignore[misc]
        simulation.run()
        print(
            f"seed {seed}: {len(simulation.all)} clients, {simulation.joins} joins, {simulation.stalls} stalls, "
            f"{simulation.cuts} cuts, {simulation.evictions} evictions, {simulation.gaps} gaps, "
            f"{time.monotonic() - began:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
