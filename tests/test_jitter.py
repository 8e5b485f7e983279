"""Clients on a bad network, in virtual time: cut off again and again, they miss nothing that the defaults can keep."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.test_told import running_hub
from triocast import Draft, Message, Position
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
        self.cuts = 0

    async def travel(self, hub: Hub, until: float) -> None:
        wish: Wish | None = None
        while trio.current_time() < until:
            transport = MemoryTransport(RAW)
            with trio.move_on_at(min(until + DOWN, trio.current_time() + self._random.expovariate(1 / UP))) as scope:
                async with open_connection(hub, transport, ["g"], {"g": wish}):
                    await trio.sleep_forever()
            self.cuts += scope.cancelled_caught
            received = [each for each in transport.received if isinstance(each, Message)]
            assert len(received) == len(transport.received), "a gap"
            self.offsets += [each.offset for each in received]
            if received:
                wish = Position(received[-1].epoch, received[-1].offset)
            elif wish is None:
                wish = transport.positions[0]
            if trio.current_time() < until:
                await trio.sleep(DOWN)


async def jitter(clients: int, seconds: float) -> list[Traveller]:
    travellers = [Traveller(number) for number in range(clients)]
    async with running_hub() as hub, trio.open_nursery() as nursery:
        until = trio.current_time() + seconds
        for each in travellers:
            nursery.start_soon(each.travel, hub, until + DOWN)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(int(seconds * RATE)):
            await hub.publish("g", Draft.of(number))
            await trio.sleep(1 / RATE)
    return travellers


@pytest.mark.parametrize(("clients", "seconds"), [(100, 60.0)])
def test_whoever_is_cut_off_again_and_again_is_given_everything_in_order_and_nothing_twice(
    clients: int, seconds: float
) -> None:
    travellers = run_seeded(jitter, clients, seconds, seed=1)
    assert sum(each.cuts for each in travellers) > 3 * clients
    everything = [*range(1, int(seconds * RATE) + 1)]
    for each in travellers:
        assert each.offsets == everything
