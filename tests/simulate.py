"""Long simulations: python -m tests.simulate [how many] [first seed] [clients]. A failure prints how to replay it.

With 10,000 clients or so, each simulation is a crowd in a short time instead.
"""

from __future__ import annotations

import gc
import sys
import time

from tests.simulation import Simulation, crowd

KINDS = (
    {},
    {"cost": 0.0002},  # a slow machine: others get their turns in the middle of rounds
    {"write_timeout": 240.0},  # who stalls for minutes comes back
    {"unkind": True},
    {"far": True},
    {"unkind": True, "far": True},
)


def main(count: int = 20, first: int = 1000, clients: int = 0) -> None:
    gc.set_threshold(200_000, 50, 1000)  # little of ten thousand clients is garbage
    for seed in range(first, first + count):
        began = time.monotonic()
        kind = KINDS[seed % len(KINDS)]
        simulation = crowd(seed, clients) if clients else Simulation(seed, clients=300, length=120, **kind)  # type: ignore[arg-type]
        simulation.run()
        print(f"{simulation}; {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
