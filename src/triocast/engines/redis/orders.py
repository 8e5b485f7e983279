"""Orders to all processes: told to those that hear, kept for those that do not at the moment, and answered by each.

It carries out none: its host does.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from contextlib import suppress

import msgspec
import trio

from triocast.bell import Bell
from triocast.core.steering import Order, Outcome
from triocast.engines import Host
from triocast.engines.redis import scripts
from triocast.engines.redis.caller import Caller
from triocast.engines.redis.keys import ORDERS, Keys
from triocast.engines.redis.store import Store
from triocast.errors import EngineError

KEPT = 1000  # orders that the server keeps, each for a minute; as many are remembered here, and may wait
PATIENCE = 2.0  # seconds, at most, that whoever asks waits for the answers of others
FIRST_LOOK = 0.005  # seconds until the first look at the answers, twice as long until the next, and so on
LAST_LOOK = 0.1

logger = logging.getLogger("triocast.redis")


class Orders:
    """The channel of orders, as a feed hears it, and the way to ask. `run` it.

    After each subscription, and now and then, the server is asked what was missed; an order is carried out once,
    whichever way it came.
    """

    name = "orders"

    def __init__(self, caller: Caller, keys: Keys, process: str) -> None:
        self.partition = ORDERS
        self.channel = keys.orders_channel
        self.live = False
        self._caller = caller
        self._keys = keys
        self._process = process
        self._known: OrderedDict[bytes, None] = OrderedDict()  # ids of those that came, the newest last
        self._waiting: deque[tuple[bytes, Order, float]] = deque()  # to be carried out, and when they were given
        self._work = Bell()

    def __repr__(self) -> str:
        return f"<Orders {len(self._waiting)} waiting{'' if self.live else ', not live'}>"

    # For a feed

    def told(self, payload: bytes) -> None:
        """Take an order that has just been given."""
        id_, _, text = payload.partition(b" ")
        self._take(id_, text, trio.current_time())

    async def look(self, store: Store) -> None:  # noqa: ARG002 - what it asks for is of no group
        """Say that this process hears, and take the orders of the last minute that it has not heard."""
        keys = (self._keys.orders, self._keys.hearers)
        told = await scripts.HEAR.run(self._caller, self.partition, keys, self._process)
        now, asked = trio.current_time(), told[0]
        for id_, text in zip(told[1::2], told[2::2], strict=True):
            self._take(id_, text, now - (asked - int(id_.partition(b"-")[0])) / 1000)

    def resume(self) -> None:
        """What is told is heard from here on."""
        self.live = True

    def fail(self, error: EngineError) -> None:
        """Nobody waits for it: the feed tries again."""

    # For the engine

    async def run(self, host: Host) -> None:
        """Carry out what comes, in order, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while not self._waiting:
                    await self._work.wait()
                id_, order, given = self._waiting.popleft()
                count = await host.obey(order, trio.current_time() - given)
                nursery.start_soon(self._answer, id_, count)

    async def ask(self, order: Order) -> Outcome:
        """Give an order to all processes, and wait until they have answered; raises what giving it raises."""
        keys = (self._keys.orders, self._keys.hearers, self.channel)
        text = msgspec.json.encode(order)
        id_, hearing, known = await scripts.ORDER.run(self._caller, self.partition, keys, text)
        answered, count = await self._answers(id_, hearing)
        return Outcome(count, approximate=answered < max(hearing, known))

    async def leave(self) -> None:
        """Say that this process hears no more, or answers would be waited for."""
        with suppress(EngineError):
            await self._caller.call(self.partition, b"ZREM", self._keys.hearers, self._process)

    def _take(self, id_: bytes, text: bytes, given: float) -> None:
        if id_ in self._known or len(self._waiting) >= KEPT:  # those that find no place are looked at again
            return
        try:
            order = msgspec.json.decode(text, type=Order)
        except msgspec.DecodeError:
            logger.warning("something foreign came on the channel of orders")
            return
        self._known[id_] = None
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        self._waiting.append((id_, order, given))
        self._work.ring()

    async def _answer(self, id_: bytes, count: int) -> None:
        with suppress(EngineError):  # then whoever asked says that it is not sure
            await scripts.ANSWER.run(self._caller, self.partition, (self._keys.answers(id_),), count)

    async def _answers(self, id_: bytes, enough: int) -> tuple[int, int]:
        """Return how many processes have answered, once they are enough or time is up, and what they say in sum."""
        answered = count = 0
        pause = FIRST_LOOK
        with trio.move_on_after(PATIENCE), suppress(EngineError):  # the order is given, whatever becomes of us
            while answered < enough:
                await trio.sleep(pause)
                pause = min(2 * pause, LAST_LOOK)
                told = await self._caller.call(self.partition, b"HMGET", self._keys.answers(id_), b"a", b"n")
                answered, count = (int(each or 0) for each in told)
        return answered, count
