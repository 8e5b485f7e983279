"""Clients on a bad network, in virtual time: python -m tests.jitter [clients] [seconds] [seed].

Each is cut off at random, about every 15 seconds for 2 seconds, while 20 messages a second are published with the
default settings for history; it comes back to where it was. A line says what became of it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import trio
import trio.testing

from tests.test_told import running_hub
from triocast import Draft, Gap, Message, Position
from triocast.connection import open_connection
from triocast.core.recovery import Wish
from triocast.core.wire import RAW
from triocast.hub import Hub
from triocast.testing import MemoryTransport, run_seeded

RATE = 20  # messages a second
UP, DOWN = 15.0, 2.0  # seconds: on the average, and each time


class Traveller:
    """A client that is cut off at random, and comes back to where it was."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.offsets: list[int] = []
        self.gaps = 0
        self.cuts = 0

    async def travel(self, hub: Hub, until: float) -> None:
        """Be there until `until` and a little longer, so that what was missed last is made up for."""
        wish: Wish | None = None
        while trio.current_time() < until:
            transport = MemoryTransport(RAW)
            with trio.move_on_at(min(until + DOWN, trio.current_time() + self._random.expovariate(1 / UP))) as scope:
                async with open_connection(hub, transport, ["g"], {"g": wish}):
                    await trio.sleep_forever()
            self.cuts += scope.cancelled_caught
            self._remember(transport)
            if self.offsets:
                wish = Position(transport.positions[0].epoch, self.offsets[-1])
            elif wish is None:
                wish = transport.positions[0]
            if trio.current_time() < until:
                await trio.sleep(DOWN)

    def _remember(self, transport: MemoryTransport) -> None:
        for each in transport.received:
            self.gaps += isinstance(each, Gap)
            if isinstance(each, Message):
                self.offsets.append(each.offset)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all clients together were given of what was published."""

    clients: int
    published: int
    cuts: int
    delivered: int  # different messages, summed over the clients
    doubles: int
    gaps: int
    disorders: int  # messages that came after a later one

    @classmethod
    def of(cls, travellers: Sequence[Traveller], published: int) -> Outcome:
        different = sum(len(set(each.offsets)) for each in travellers)
        received = sum(len(each.offsets) for each in travellers)
        disorders = sum(later < earlier for each in travellers for earlier, later in pairwise(each.offsets))
        gaps, cuts = sum(each.gaps for each in travellers), sum(each.cuts for each in travellers)
        return cls(len(travellers), published, cuts, different, received - different, gaps, disorders)

    @property
    def whole(self) -> bool:
        """Whether everybody was given everything, in order, once."""
        return self.delivered == self.clients * self.published and not (self.doubles or self.gaps or self.disorders)

    def __str__(self) -> str:
        share = 100 * self.delivered / (self.clients * self.published)
        order = "in order" if not self.disorders else f"{self.disorders} out of order"
        return (
            f"jitter: {self.clients} clients, {self.cuts} cuts, {self.published} messages published: {share:g} % "
            f"delivered, {order}, {self.doubles} doubles, {self.gaps} gaps"
        )


async def jitter(clients: int, seconds: float) -> Outcome:
    """Let `clients` travel for so many virtual seconds."""
    travellers = [Traveller(number) for number in range(clients)]
    published = int(seconds * RATE)
    async with running_hub() as hub, trio.open_nursery() as nursery:
        until = trio.current_time() + seconds
        for each in travellers:
            nursery.start_soon(each.travel, hub, until + DOWN)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(published):
            await hub.publish("g", Draft.of(number))
            await trio.sleep(1 / RATE)
    return Outcome.of(travellers, published)


def main(clients: int = 1000, seconds: int = 60, seed: int = 1) -> int:
    began = time.monotonic()
    outcome = run_seeded(jitter, clients, float(seconds), seed=seed)
    print(f"{outcome}; {time.monotonic() - began:.0f} s")
    return 0 if outcome.whole else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
