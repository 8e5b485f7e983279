"""What a client of the simulation does once it is there, and its handler with it: wander, speak, stall, break off.

It judges nothing; what is drawn here is drawn from the life's own chance.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tests.simulation_life import Life
from tests.simulation_wire import ECHO
from triocast.connection import Connection
from triocast.errors import ConnectionEnded

if TYPE_CHECKING:
    from tests.simulation import Simulation


class HandlerCrash(Exception):
    """What a handler of the simulation raises now and then."""


class Course:
    """The handler's block of one life."""

    def __init__(self, simulation: Simulation, life: Life, connection: Connection) -> None:
        self._simulation = simulation
        self._life = life
        self._connection = connection

    async def run(self) -> None:
        """Stay until everybody leaves, or something ends it; raises `HandlerCrash` if that is its handler."""
        life, connection = self._life, self._connection
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._echo, connection)
            nursery.start_soon(self._fate, life, nursery.cancel_scope)
            try:
                with suppress(ConnectionEnded):
                    await self._wander(life, connection)
                await self._simulation.leaving.wait()
            finally:
                life.fade()
            nursery.cancel_scope.cancel()
        if life.crashes:
            self._simulation.crashes += 1
            raise HandlerCrash

    async def _wander(self, life: Life, connection: Connection) -> None:
        random, interests = life.random, life.person.interests
        while not (self._simulation.settling.is_set() or life.person.stream):
            group = random.choice(interests)
            if group not in life.members:
                await self._join(life, connection, group)
                if random.random() < 0.2:  # for a moment only
                    with trio.move_on_after(random.uniform(0, 0.1)):
                        await self._simulation.settling.wait()
                    await self._leave(life, connection, group)
            elif random.random() < 0.6 and group in connection.groups:
                await self._leave(life, connection, group)
                if random.random() < 0.3:  # and back at once, perhaps in the middle of a round
                    await self._join(life, connection, group)
            else:
                await connection.join(group)  # twice is harmless
            with trio.move_on_after(random.expovariate(0.4 / self._simulation.calm)):
                await self._simulation.settling.wait()

    async def _join(self, life: Life, connection: Connection, group: str) -> None:
        await connection.join(group, life.note_joining(group))
        if group not in connection.groups:  # the writer has seen that the client is gone, and the reader not yet
            assert life.fading
            raise ConnectionEnded
        life.note_join(group)

    async def _leave(self, life: Life, connection: Connection, group: str) -> None:
        if group in connection.groups:  # else the client is gone
            life.note_leave(group)
            await connection.leave(group)

    async def _echo(self, connection: Connection) -> None:
        with suppress(ConnectionEnded):
            async for said in connection:
                await connection.send(said)

    async def _fate(self, life: Life, handler: trio.CancelScope) -> None:
        """What the client does beside reading: nothing, stall and come back, never read again, or go."""
        random, said = life.random, 0
        while not self._simulation.settling.is_set():
            with trio.move_on_after(random.expovariate(1 / 6)):
                await self._simulation.settling.wait()
            if self._simulation.settling.is_set() or life.fading:
                return
            ends = ["die", "cut", "close", "leave", "crash"] if random.random() < 1 / self._simulation.calm else []
            match random.choice(["speak", "speak", "stall", "stall", "stall", *ends]):
                case "speak":
                    said += 1
                    await self._speak(life, f"{ECHO}{said}")
                case "stall" if not life.steady:
                    await self._stall(life)
                case "die" if not life.steady:
                    life.dead = True
                    life.kernel.read_at(0)
                    return
                case "cut":
                    life.cut()
                    return
                case "close" if life.rate == math.inf:
                    life.fade()
                    life.link.say_goodbye()
                    return
                case "crash" if random.random() < 0.3:
                    life.crashes = True
                    handler.cancel()
                case "leave" if random.random() < 0.3:
                    await life.connection.close(4000, "bye")

    async def _speak(self, life: Life, data: str) -> None:
        if not life.person.stream:
            life.link.say(data)
            return
        # It can't, but be spoken to.
        with suppress(ConnectionEnded):
            await life.connection.send(data)

    async def _stall(self, life: Life) -> None:
        """A moment, or minutes; longer than `write_timeout` is the end of who has something coming."""
        self._simulation.stalls += 1
        life.kernel.read_at(0)
        with trio.move_on_after(life.random.expovariate(life.random.choice([1.0, 1 / 8, 1 / 120]))):
            await self._simulation.settling.wait()
        life.kernel.read_at(life.rate)
