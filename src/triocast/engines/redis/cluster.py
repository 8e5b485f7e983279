"""A Cluster: which of its servers has which partition, learned anew when one says that it has not, or is gone.

It moves nothing between servers and asks a command elsewhere only when it was not executed.
"""

from __future__ import annotations

import logging
from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.connection import Arg, Reply
from triocast.engines.redis.keys import PARTITIONS
from triocast.engines.redis.line import Means
from triocast.engines.redis.reasons import reason_of
from triocast.engines.redis.routing import Router, ask_once
from triocast.engines.redis.wire import Wire
from triocast.errors import EngineError, EngineUnavailable
from triocast.settings.redis_address import Place

SLOTS = 16_384
REDIRECTS = 5  # servers that one command is sent on to: more than a slot that moves needs
AGAIN = 0.1  # seconds until a command is tried again that the Cluster could not take
LOOK_AGAIN = 1.0  # seconds between two looks at a Cluster of which a server is gone: a failover takes seconds

logger = logging.getLogger("triocast.redis")


def slot_of(partition: int) -> int:
    """Return the slot that the partition's keys and channels are in, by their hash tag."""
    return crc_hqx(b"%d" % partition, 0) % SLOTS


_PARTITION_SLOTS = [slot_of(partition) for partition in range(PARTITIONS)]


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a refused command belongs; `asking` for this once, because its slot is moving there."""

    place: Place
    asking: bool


def parse_slots(reply: Sequence[Sequence[Reply]], asked: Place) -> Mapping[int, Place]:
    """Return the primary of each partition from what CLUSTER SLOTS says; a primary without a name is the one asked."""
    homes: dict[int, Place] = {}
    for first, last, primary, *_ in reply:
        place = Place(_host(primary[0], asked), int(primary[1]))
        for partition, slot in enumerate(_PARTITION_SLOTS):
            if first <= slot <= last:
                homes[partition] = place
    return homes


def parse_redirect(refused: RedisRefused, asked: Place) -> Redirect | None:
    """Return where the command belongs that was refused by the server `asked`; None if it was for another reason."""
    reason, *rest = str(refused).split()
    if reason not in ("MOVED", "ASK"):
        return None
    host, _, port = rest[1].rpartition(":")
    return Redirect(Place(_host(host.strip("[]").encode(), asked), int(port)), reason == "ASK")


class ClusterRouter(Router):
    """Asks the primary of a partition's slot. `seeds` are servers to begin with; the others are learned."""

    def __init__(self, seeds: Sequence[Place], means: Means) -> None:
        super().__init__()
        self._seeds = seeds
        self._means = means
        self._homes: Mapping[int, Place] = {}
        self._wires: dict[Place, Wire] = {}
        self._scopes: dict[Place, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._again = trio.Event()
        self._failure = "it was not asked yet"

    @property
    def wires(self) -> Sequence[Wire]:
        """Those that have partitions, or were pointed at."""
        return list(self._wires.values())

    @property
    def why(self) -> str:
        """What is the matter; nothing if every partition can be asked for."""
        if len(self._homes) < PARTITIONS:
            return f"the Cluster does not say who has all slots: {self._failure}"
        return super().why

    async def run(self) -> None:
        """Keep the connections up and the map right until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                self._again = trio.Event()
                await self._learn()
                await trio.sleep(AGAIN)  # whatever many callers find out at once is looked at once
                with trio.move_on_after(LOOK_AGAIN if self.why else float("inf")):
                    await self._again.wait()

    async def wait_ready(self) -> None:
        """Wait until the map is there, and those that are on it are up."""
        while len(self._homes) < PARTITIONS:
            await self.changed.wait()
        for wire in self.wires:
            await wire.wait_up()

    def wire_of(self, partition: int) -> Wire | None:
        """Return the primary of the partition."""
        home = self._homes.get(partition)
        return None if home is None else self._wires.get(home)

    def look_again(self) -> None:
        """Learn the map anew, soon."""
        self._again.set()

    async def call(self, partition: int, *args: Arg) -> Reply:
        """Ask the primary of the partition; bounded in redirects, and in time while the Cluster can't take it."""
        until = trio.current_time() + self._means.timeout
        wire, asking, redirects = self._home(partition), False, 0
        while True:
            try:
                return await wire.call(*args, asking=asking)
            except EngineUnavailable:
                self.look_again()
                raise
            except RedisRefused as refused:
                redirect = parse_redirect(refused, wire.place or self._seeds[0])
                if redirect is None:
                    await self._pause(refused, until)
                    wire, asking, redirects = self._home(partition), False, 0
                else:
                    self.look_again()
                    redirects += 1
                    if redirects > REDIRECTS:
                        raise EngineUnavailable(f"the Cluster sends us from server to server: {refused}") from refused
                    wire, asking = self._wire(redirect.place), redirect.asking
                    await wire.wait_up()

    async def _pause(self, refused: RedisRefused, until: float) -> None:
        if reason_of(refused) not in ("TRYAGAIN", "CLUSTERDOWN"):
            raise refused
        self.look_again()
        if trio.current_time() >= until:
            raise EngineUnavailable(f"the Cluster can't take it now: {refused}") from refused
        await trio.sleep(AGAIN)

    def _home(self, partition: int) -> Wire:
        wire = self.wire_of(partition)
        if wire is None:
            self.look_again()
            raise EngineUnavailable(f"no server of the Cluster has this group's slot: {self._failure}")
        return wire

    def _wire(self, place: Place) -> Wire:
        """Return the connection to a server, which is begun if there is none."""
        wire = self._wires.get(place)
        if wire is None:
            if self._nursery is None:
                raise EngineUnavailable("the engine is not running")
            wire = self._wires[place] = Wire(str(place), lambda: _stay(place), self._means)
            wire.since = trio.current_time()
            self._scopes[place] = scope = trio.CancelScope()
            self._nursery.start_soon(_run_in, scope, wire)
        return wire

    async def _learn(self) -> None:
        """Ask one server after the other for the map, until one has a map of all partitions."""
        failures = []
        known = [place for place, wire in self._wires.items() if wire.up]
        self._means.source.shuffle(known)  # one that was cut off from the others must not be believed for ever
        for place in dict.fromkeys([*known, *self._seeds]):
            try:
                homes = parse_slots(await self._ask_for_slots(place), place)
            except EngineError as error:
                failures.append(str(error))
            else:
                if len(homes) == PARTITIONS:
                    self._adopt(homes)
                    return
                failures.append(f"{place} knows the primaries of {len(homes)} of {PARTITIONS} partitions")
        self._failure = "; ".join(failures)
        logger.warning("the Cluster's map can't be learned: %s", self._failure)

    async def _ask_for_slots(self, place: Place) -> Sequence[Sequence[Reply]]:
        wire = self._wires.get(place)
        if wire is not None and wire.up:
            reply = await wire.call(b"CLUSTER", b"SLOTS")
        else:
            reply = await ask_once(place, self._means.access, self._means.timeout, b"CLUSTER", b"SLOTS")
        slots: Sequence[Sequence[Reply]] = reply
        return slots

    def _adopt(self, homes: Mapping[int, Place]) -> None:
        changed = homes != self._homes
        self._homes = homes
        for place in set(homes.values()):
            self._wire(place)
        for place in set(self._wires) - set(homes.values()):
            if changed or self._has_gone(self._wires[place]):
                del self._wires[place]
                self._scopes.pop(place).cancel()
                changed = True
        if changed:
            self._change()

    def _has_gone(self, wire: Wire) -> bool:
        """Whether a server that was only pointed at, by a move of slots that came to nothing, can't be reached."""
        return not wire.up and trio.current_time() - wire.since >= self._means.timeout


async def _stay(place: Place) -> Place:
    await trio.lowlevel.checkpoint()
    return place


async def _run_in(scope: trio.CancelScope, wire: Wire) -> None:
    with scope:
        await wire.run()


def _host(told: bytes | None, asked: Place) -> str:
    host = (told or b"").decode()
    return asked.host if host in ("", "?") else host
