"""Who publishes in the simulation, and what a receipt has to say.

Clients are none of its business but as members that are counted.
"""

from __future__ import annotations

import math
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import trio

from tests.simulation_life import Life
from triocast import Draft, Policy, Position
from triocast.errors import Overloaded
from triocast.hub import Hub

if TYPE_CHECKING:
    from tests.simulation import Simulation

A_FEW_TURNS = 6  # of the event loop, until everybody concerned has noticed an end


class Publishers:
    """All of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def run(self, hub: Hub, number: int, random: Random) -> None:
        """Publish until cancelled."""
        count = 0
        while True:
            group = random.choice(
                self._simulation.private
                if self._simulation.private and random.random() < 0.15
                else self._simulation.public
            )
            count += 1
            size = random.choice([0, 10, 300, 300, 5_000 if random.random() < 0.1 else 0])
            data = f"{group}|{number}|{count}|{'x' * size}".encode()
            with trio.move_on_after(random.choice([0.0001, 5, math.inf])):  # some have no patience
                if random.random() < 0.2:
                    burst = [data + b"|%d" % part for part in range(random.randint(1, 6))]
                    await self._post(hub, group, burst, self._excluded(group, random))
                await self.publish(hub, group, data, random.choice([None, "x", "y"]), self._excluded(group, random))
            await trio.sleep(random.expovariate(self._simulation.rate / 10))

    def _excluded(self, group: str, random: Random) -> str | None:
        """Return whom a message is not to be given: now and then a member, or one that may become one."""
        if random.random() < 0.6:
            return None
        open_ones = [life for life in self._simulation.lives if life.connection is not None]
        members = [life for life in open_ones if group in life.members]
        some = members if random.random() < 0.8 else open_ones
        return random.choice(some).connection.id if some else None  # type: ignore[union-attr]

    async def _post(self, hub: Hub, group: str, burst: list[bytes], exclude: str | None) -> None:
        """Publish several at once without waiting for receipts."""
        with suppress(Overloaded):
            for data in burst:
                position = await hub.post(group, Draft.of(data.decode(), exclude=exclude))
                assert self._simulation.truths[group].positions[data] == position

    async def publish(self, hub: Hub, group: str, data: bytes, key: str | None, exclude: str | None = None) -> None:
        """Publish a message and judge its receipt."""
        truth, began = self._simulation.truths[group], trio.current_time()
        epoch, acknowledged = truth.era.epoch, truth.acknowledged
        with self._simulation.census[group].watch() as members:
            try:
                receipt = await hub.publish(group, Draft.of(data.decode(), key=key, exclude=exclude))
            except Overloaded:
                self._simulation.refusals += 1
                self._simulation.refused.append(data)
                assert truth.policy is Policy.BLOCK
                self._simulation.check_time(trio.current_time(), began + truth.settings.block_timeout)
                return
            truth.acknowledged = max(truth.acknowledged, receipt.offset)
            assert truth.positions[data] == Position(receipt.epoch, receipt.offset)
            busy = []
            if receipt.epoch == epoch:
                busy = [
                    life for life in self._simulation.lives if self._is_busy(life, group, acknowledged, receipt.offset)
                ]
            for _ in range(A_FEW_TURNS):
                await trio.lowlevel.checkpoint()
        assert members.low <= receipt.subscribers <= members.high, (receipt, members.low, members.high)
        assert sum(not life.fading for life in busy) <= receipt.behind <= receipt.subscribers, receipt
        self._simulation.receipts += 1

    @staticmethod
    def _is_busy(life: Life, group: str, offset: int, new: int) -> bool:
        """Whether it must have been counted as behind when the message `new` came: it was there, and has not been told
        even now what came up to `offset`. Of who is told no gaps it can't be said."""
        member = life.members.get(group)
        if member is None or life.view.silent or life.fading:
            return False
        return member.until < new and member.at < offset
