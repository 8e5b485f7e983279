"""One client of the simulation, from its coming to its going.

It decides nothing after its birth; the simulation does.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import trio

from tests.simulation_model import Membership, View
from tests.simulation_net import WAYS, Kernel, VirtualLink
from triocast.connection import Connection
from triocast.core.wire import JSON, RAW

if TYPE_CHECKING:
    from tests.simulation import Simulation


class Life:
    """A client's nature, its connection as both sides have it, and where it is a member."""

    def __init__(self, simulation: Simulation, random: Random) -> None:
        self.random = random
        self.simulation = simulation
        self.form = random.choice([RAW, JSON])
        self.rate = random.choice([math.inf, math.inf, random.uniform(500, 5000)])  # bytes a second while it reads
        self.steady = random.random() < 0.3  # it never stalls
        self.view = View(
            simulation.truths,
            silent=self.form is RAW,
            prompt=self.steady and self.rate == math.inf and simulation.exact,
            lossy=simulation.unkind,
        )
        size = random.choice([400, 2_000, 10_000])
        self.kernel = Kernel(size, self.rate, simulation.cost, self.view.take)
        self.link = VirtualLink(self.kernel, simulation.settings.write_timeout)
        self.link.on_close = self._socket_closed
        self.way = random.choice(WAYS)
        self.transport = self.link.transport(self.way, self.form)
        stay = random.expovariate(2 / simulation.length / simulation.calm)
        self.scope = trio.CancelScope(deadline=trio.current_time() + stay)
        self.interests = random.choice([simulation.groups, simulation.forgiving])
        self.members: dict[str, Membership] = {}
        self.dead = False  # it will never read again
        self.fading = False  # on its way out: no sure member of anything
        self.ended_at = math.inf
        self.connection: Connection | None = None  # before it is open

    def note_join(self, group: str) -> None:
        """To be called in the step in which it has joined."""
        subscription = self.connection._subscriptions[group]
        assert subscription is not None
        self.view.join(group, subscription.cursor)
        self.members[group] = self.view.current(group)
        self.simulation.census[group].change(0 if self.fading else 1, 1)
        self.simulation.joins += 1

    def note_leave(self, group: str) -> None:
        """To be called in the step in which it leaves."""
        subscription = self.connection._subscriptions[group]
        assert subscription is not None
        self.members.pop(group).end = subscription.cursor
        self.simulation.census[group].change(0 if self.fading else -1, -1)

    def fade(self) -> None:
        """Something has happened that ends it."""
        if not self.fading:
            self.fading = True
            self.ended_at = trio.current_time()
            for group in self.members:
                self.simulation.census[group].change(-1, 0)

    def gone(self) -> None:
        """Nothing of it is left."""
        self.fade()
        self.link.end()
        for group in self.members:
            self.simulation.census[group].change(0, -1)

    def _socket_closed(self) -> None:
        if self.link.writer.stalled:
            self.simulation.check_deadline(self.kernel)
        self.fade()
