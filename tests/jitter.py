"""Clients on a bad network, in virtual time: python -m tests.jitter [clients] [seconds] [seed]. It says what came of it
in a line of JSON, which the benchmark reads.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from dataclasses import dataclass, field

import trio
import trio.testing

from triocast import Draft, Message, Position, Settings
from triocast.connection import open_connection
from triocast.core.recovery import Wish
from triocast.core.wire import RAW
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.testing import MemoryTransport, run_seeded

RATE = 20  # messages a second
UP, DOWN = 15.0, 2.0  # seconds: on the average, and each time


@dataclass
class Traveller:
    """A client that is cut off at random, and comes back to where it was: the offsets it was given, and how many times
    it was cut off, and was told of a gap."""

    seed: str
    offsets: list[int] = field(default_factory=list)
    cuts: int = 0
    gaps: int = 0

    async def travel(self, hub: Hub, until: float) -> None:
        wish: Wish | None = None
        fate = random.Random(self.seed)
        while trio.current_time() < until:
            transport = MemoryTransport(RAW)
            with trio.move_on_at(min(until + DOWN, trio.current_time() + fate.expovariate(1 / UP))) as scope:
                async with open_connection(hub, transport, ["g"], {"g": wish}):
                    await trio.sleep_forever()
            self.cuts += scope.cancelled_caught
            received = [each for each in transport.received if isinstance(each, Message)]
            self.gaps += len(transport.received) - len(received)
            self.offsets += [each.offset for each in received]
            if received:
                wish = Position(received[-1].epoch, received[-1].offset)
            elif wish is None:
                wish = transport.positions[0]
            if trio.current_time() < until:
                await trio.sleep(DOWN)


async def jitter(clients: int, seconds: float, seed: int) -> list[Traveller]:
    """Publish to so many clients for so many seconds, with the settings as they are by default."""
    travellers = [Traveller(f"{seed} {number}") for number in range(clients)]
    settings = Settings(max_connections=max(clients, 1))
    hub = Hub(settings, MemoryEngine(settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with trio.open_nursery() as clients_nursery:
            until = trio.current_time() + seconds
            for each in travellers:
                clients_nursery.start_soon(each.travel, hub, until + DOWN)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(int(seconds * RATE)):
                await hub.publish("g", Draft.of(number))
                await trio.sleep(1 / RATE)
        hub.stop()
    return travellers


def run(clients: int, seconds: float, seed: int = 1) -> list[Traveller]:
    """Run it; the seed decides everything."""
    return run_seeded(jitter, clients, seconds, seed, seed=seed)


def counted(travellers: list[Traveller]) -> dict[str, int]:
    """Count what all were given, and what went wrong."""
    counts = dict.fromkeys(("delivered", "twice", "damaged", "gaps", "cuts"), 0)
    for each in travellers:
        counts["delivered"] += len(set(each.offsets))
        counts["twice"] += len(each.offsets) - len(set(each.offsets))
        counts["damaged"] += sum(1 for one, two in zip(each.offsets, each.offsets[1:], strict=False) if two < one)
        counts["gaps"] += each.gaps
        counts["cuts"] += each.cuts
    return {"clients": len(travellers), **counts}


def main(clients: int = 1000, seconds: float = 60.0, seed: int = 1) -> None:
    gc.set_threshold(200_000, 50, 1000)  # little of a million messages is garbage
    print(json.dumps(counted(run(clients, seconds, seed))))


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, float, int), sys.argv[1:], strict=False)))
