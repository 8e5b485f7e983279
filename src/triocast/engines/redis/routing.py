"""Which server has a partition: the one there is, the primary that Sentinels name, or one of a Cluster (`cluster.py`).

It asks servers what it is given to ask, and knows nothing of what that means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import trio
from coredis.exceptions import RedisError

from triocast.engines import NodeState
from triocast.engines.redis.connection import Access, Arg, ConnectionLost, Reply, new_connection
from triocast.engines.redis.line import Means
from triocast.engines.redis.reasons import describe
from triocast.engines.redis.wire import Wire
from triocast.errors import EngineUnavailable
from triocast.settings.redis_address import Place, RedisAddress

LOOK = 1.0  # seconds between two questions to the Sentinels whether the primary is still the same


class Router(ABC):
    """Asks the server of a partition. `run` it."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        """Set, and another one there, when a partition may have another server than before."""

    @property
    @abstractmethod
    def wires(self) -> Sequence[Wire]:
        """The servers that there are at the moment."""

    @property
    def nodes(self) -> Sequence[NodeState]:
        """The state of each server."""
        return [NodeState(wire.name, wire.up, wire.since, "" if wire.up else wire.why) for wire in self.wires]

    @property
    def why(self) -> str:
        """What is the matter, where some partition can't be asked for; nothing if all can."""
        return "; ".join(str(wire.unavailable()) for wire in self.wires if not wire.up)

    @abstractmethod
    async def run(self) -> None:
        """Keep the connections up until cancelled."""

    @abstractmethod
    async def wait_ready(self) -> None:
        """Wait until every partition can be asked for; may raise `EngineUnavailable` where that takes too long."""

    @abstractmethod
    def wire_of(self, partition: int) -> Wire | None:
        """Return the server that has the partition; None while that is not known."""

    @abstractmethod
    async def call(self, partition: int, *args: Arg) -> Reply:
        """Ask the server of the partition once, as `Wire.call` does; what was sent elsewhere was not executed."""

    @abstractmethod
    def look_again(self) -> None:
        """Find out anew who has what: something was not where it should be."""

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class OneServer(Router):
    """One server has all partitions: always the same one, or the primary that `find` says before each connection."""

    def __init__(self, address: RedisAddress, means: Means) -> None:
        super().__init__()
        self._address = address
        self._means = means
        self._wire = Wire(str(address), self._locate, means)
        self._sentinels = list(address.places)

    @property
    def wires(self) -> Sequence[Wire]:
        """The one."""
        return [self._wire]

    async def run(self) -> None:
        """Keep the connection up, and with Sentinels to the right server, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wire.run)
            if self._address.name:
                nursery.start_soon(self._watch_the_primary)

    async def wait_ready(self) -> None:
        """Wait until it is up."""
        await self._wire.wait_up()

    def wire_of(self, partition: int) -> Wire:  # noqa: ARG002 - it is the same for all
        """Return the one."""
        return self._wire

    async def call(self, partition: int, *args: Arg) -> Reply:  # noqa: ARG002 - it is the same for all
        """Ask the one."""
        return await self._wire.call(*args)

    def look_again(self) -> None:
        """There is no other."""

    async def _watch_the_primary(self) -> None:
        """Leave a server that is the primary no more: one that is replaced in order goes on for seconds as if it were,
        and what it acknowledges then is lost."""
        while True:
            await trio.sleep(LOOK)
            if self._wire.up:
                with suppress(EngineUnavailable):
                    place = await self._ask_the_sentinels()
                    if place != self._wire.place:
                        self._wire.drop(f"the primary is {place} now")

    async def _locate(self) -> Place:
        if not self._address.name:
            await trio.lowlevel.checkpoint()
            return self._address.places[0]
        return await self._ask_the_sentinels()

    async def _ask_the_sentinels(self) -> Place:
        access = replace(self._means.access, login=self._address.sentinel_login, db=0)
        name = self._address.name
        failures = []
        for sentinel in list(self._sentinels):
            try:
                command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name)
                reply = await ask_once(sentinel, access, self._means.timeout, *command)
            except EngineUnavailable as error:
                failures.append(str(error))
            else:
                if reply is not None:
                    # The next time it is asked first: those before it did not know.
                    self._sentinels.remove(sentinel)
                    self._sentinels.insert(0, sentinel)
                    return Place(reply[0].decode(), int(reply[1]))
                failures.append(f"{sentinel} knows no primary {name!r}")
        raise EngineUnavailable("no Sentinel says where the primary is: " + "; ".join(failures))


async def ask_once(place: Place, access: Access, timeout: float, *args: Arg) -> Reply:
    """Connect, ask and leave. Raises `EngineUnavailable` for whatever keeps an answer from coming in time."""
    try:
        connection = new_connection(place, access, timeout, lambda _: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give_up_after, connection.give_up, timeout)
            await nursery.start(connection.run)
            reply = await connection.ask(*args).wait()
            nursery.cancel_scope.cancel()
    except* (RedisError, ConnectionLost, OSError) as group:  # the last: files of TLS that can't be read
        raise EngineUnavailable(f"{place}: {describe(group.exceptions[0])}") from group
    if isinstance(reply, Exception):
        raise EngineUnavailable(f"{place}: {reply}") from reply
    return reply


async def _give_up_after(give_up: Callable[[str], None], timeout: float) -> None:
    await trio.sleep(timeout)
    give_up(f"no answer for {timeout:g} s")
