"""What one server tells: its feed connection, the channels subscribed to there, and looks at what they may have missed.

It never waits for a group: what has no place in an inbox is fetched by the group.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from typing import Protocol

import trio
from coredis.exceptions import ConnectionError as NotConnected

from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.connection import Connection, Reply
from triocast.engines.redis.line import Line
from triocast.engines.redis.reasons import error_text, reason_of
from triocast.engines.redis.routing import Router
from triocast.engines.redis.store import Store
from triocast.engines.redis.wire import Wire
from triocast.errors import EngineError, EngineUnavailable, UnknownOutcome
from triocast.settings.redis_address import Place

ROUND = 2_000  # channels that are subscribed to before their acknowledgements are waited for: some 200 KB
CHANNELS = 500  # channels in one command: a server does nothing else meanwhile
LOOKED_AT = 500  # groups that the store is asked about at once: publishes wait behind so many small requests
CHECK_EVERY = 25.0  # seconds in which every group's head is compared with the server's
SLICES = 50  # pieces of that, so that not all groups are looked at at once
AGAIN = 0.25  # seconds until what failed is tried again
LONGEST = 4.0  # seconds, at most, until a server that answers nothing about groups is asked about them again
MARK = b"triocast:mark"  # a channel that nobody subscribes to: leaving it is answered, in order, behind all before

# Why a channel was refused that is only somewhere else, or will be there again soon.
_ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"})

logger = logging.getLogger("triocast.redis")


class Heard(Protocol):
    """Who hears one channel, in one partition; it is `live` while it does."""

    live: bool

    @property
    def name(self) -> str:
        """What it is, for the log."""

    @property
    def channel(self) -> bytes: ...

    @property
    def partition(self) -> int: ...

    def told(self, payload: bytes) -> None:
        """Take what came."""

    async def look(self, store: Store) -> None:
        """Find out what was missed; asked for once the channel is subscribed to, and now and then. Raises
        `EngineError`."""

    def resume(self) -> None:
        """Take note that what is told is heard from here on: it is live."""

    def fail(self, error: EngineError) -> None:
        """Take note that it can't be heard, for whoever waits for that."""


class Feed(Line):
    """The feed connection to the server of `wire`. `run` it; `add` and `remove` at any time."""

    def __init__(self, wire: Wire, store: Store, router: Router) -> None:
        super().__init__(f"the feed of {wire.name}", self._where_the_wire_is, wire.means)
        self._wire = wire
        self._store = store
        self._router = router
        self._wanted: dict[bytes, Heard] = {}  # by channel
        self._fresh: dict[bytes, Heard] = {}  # to be subscribed to
        self._stale: dict[bytes, int] = {}  # to be left, with their partitions
        self._leaving: dict[bytes, int] = {}  # being left
        self._acknowledged: set[bytes] = set()
        self._refused: list[RedisRefused] = []
        self._unseen: dict[bytes, Heard] = {}  # to be asked about at the store
        self._marks: deque[tuple[float, trio.Event]] = deque()  # not answered yet, and since when
        self._work = trio.Event()
        self._looking = trio.Event()

    def add(self, heard: Heard) -> None:
        """Subscribe to its channel, in place of who heard that before; it is looked at once that is done."""
        self._wanted[heard.channel] = self._fresh[heard.channel] = heard
        self._work.set()

    def remove(self, heard: Heard) -> None:
        """Leave its channel, unless somebody else hears that by now."""
        channel = heard.channel
        if self._wanted.get(channel) is heard:
            del self._wanted[channel]
            self._fresh.pop(channel, None)
            self._unseen.pop(channel, None)
            heard.live = False
            self._stale[channel] = heard.partition
            self._work.set()

    async def live(self, connection: Connection) -> None:
        """Subscribe, and ask about what was missed until then."""
        self._acknowledged.clear()
        self._stale.clear()
        self._leaving.clear()
        self._unseen.clear()
        self._marks.clear()
        self._fresh = dict(self._wanted)
        self._work.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stay_with_the_wire)
                nursery.start_soon(self._look)
                nursery.start_soon(self._check_all)
                await self._subscribe(connection)
        finally:
            for heard in self._wanted.values():
                heard.live = False

    def told(self, replies: Sequence[Reply]) -> None:
        """Deliver what was published, and note what was acknowledged or refused."""
        for reply in replies:
            if isinstance(reply, Exception):
                self._refused.append(RedisRefused(error_text(reply)))
                continue
            what, channel, *rest = reply
            if what == b"smessage":
                heard = self._wanted.get(channel)
                if heard is not None:
                    heard.told(rest[0])
            elif what == b"ssubscribe":
                self._acknowledged.add(channel)
            elif what == b"sunsubscribe":
                self._left(channel)
            elif what == b"unsubscribe" and self._marks:
                self._marks.popleft()[1].set()

    def greet(self, connection: Connection) -> None:
        """Ask for a sign of life that comes in order with the rest, so that no backlog grows behind the question."""
        self._mark(connection)

    def asked(self, connection: Connection) -> float | None:
        """Return since when a mark is waited for and nothing has come."""
        return max(self._marks[0][0], connection.heard) if self._marks else None

    async def _where_the_wire_is(self) -> Place:
        await self._wire.wait_up()
        if self._wire.place is None:
            raise self._wire.unavailable()
        return self._wire.place

    async def _stay_with_the_wire(self) -> None:
        """Go where commands go: after a failover the old server tells nothing more."""
        while True:
            await self._wire.changed.wait()
            if self._wire.up and self._wire.place != self.place:
                self.drop(f"the primary is {self._wire.place} now")

    async def _subscribe(self, connection: Connection) -> None:
        """Keep what is subscribed to at what is wanted, a round at a time."""
        while True:
            self._work = trio.Event()
            if not self._fresh and not self._stale:
                await self._work.wait()
            self._leaving, self._stale = self._stale, {}
            fresh = _taken(self._fresh, ROUND)
            self._refused.clear()
            for channels in _batches(self._leaving.items()):
                connection.tell(b"SUNSUBSCRIBE", *channels)
            for channels in _batches((channel, heard.partition) for channel, heard in fresh.items()):
                connection.tell(b"SSUBSCRIBE", *channels)
            await self._mark(connection).wait()
            self._leaving = {}
            self._sort(fresh)
            if self._refused:
                await trio.sleep(AGAIN)

    def _sort(self, fresh: dict[bytes, Heard]) -> None:
        """Go on with what was acknowledged; what was not is tried again, here or where it is by then."""
        final = next((each for each in self._refused if reason_of(each) not in _ELSEWHERE), None)
        for channel, heard in fresh.items():
            if self._wanted.get(channel) is not heard:
                continue
            if channel in self._acknowledged:
                self._unseen[channel] = heard
                continue
            self._try_again(heard)
            if final is not None:
                logger.error("a channel can't be subscribed to: %s", final, extra={"of": heard.name})
                heard.fail(final)
        self._acknowledged.clear()
        self._looking.set()

    def _try_again(self, heard: Heard) -> None:
        heard.live = False
        self._fresh[heard.channel] = heard
        self._work.set()
        self._router.look_again()

    def _left(self, channel: bytes) -> None:
        """A channel is left: as we wished, or because a Cluster has moved its slot to another server."""
        heard = self._wanted.get(channel)
        if heard is not None and channel not in self._leaving:
            self._try_again(heard)

    async def _look(self) -> None:
        """Ask the store about groups, until it has answered for each; ever less often while it can't, as a server does
        that is out of memory."""
        pause = AGAIN
        while True:
            self._looking = trio.Event()
            if not self._unseen:
                await self._looking.wait()
            some = _taken(self._unseen, LOOKED_AT)
            async with trio.open_nursery() as nursery:
                for heard in some.values():
                    nursery.start_soon(self._look_at, heard)
            if any(channel in self._unseen for channel in some):
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST)
            else:
                pause = AGAIN

    async def _look_at(self, heard: Heard) -> None:
        try:
            await heard.look(self._store)
        except (EngineUnavailable, UnknownOutcome):
            if self._wanted.get(heard.channel) is heard:
                self._unseen[heard.channel] = heard
        except EngineError as error:
            logger.exception("what was missed can't be had", extra={"of": heard.name})
            heard.fail(error)
        else:
            if self._wanted.get(heard.channel) is heard and heard.channel not in self._fresh:
                heard.resume()

    async def _check_all(self) -> None:
        """Look at every group in a while: a server that lost its last writes need not have been away."""
        while True:
            follows = list(self._wanted.values())
            size = -(-len(follows) // SLICES) or 1
            for begin in range(0, max(len(follows), size * SLICES), size):
                await trio.sleep(CHECK_EVERY / SLICES)
                some = (heard for heard in follows[begin : begin + size] if heard.live)
                self._unseen.update((heard.channel, heard) for heard in some)
                self._looking.set()

    def _mark(self, connection: Connection) -> trio.Event:
        event = trio.Event()
        self._marks.append((trio.current_time(), event))
        with suppress(NotConnected):  # whoever waits is cancelled with the connection
            connection.tell(b"UNSUBSCRIBE", MARK)
        return event


def _taken(channels: dict[bytes, Heard], most: int) -> dict[bytes, Heard]:
    """Take the first ones out."""
    some = dict(islice(channels.items(), most))
    for channel in some:
        del channels[channel]
    return some


def _batches(channels: Iterable[tuple[bytes, int]]) -> Iterator[Sequence[bytes]]:
    """Return commands' worth of channels: those of one partition, because a command's channels must share a slot."""
    ordered = sorted(channels, key=lambda item: item[1])
    for _, items in groupby(ordered, key=lambda item: item[1]):
        names = [channel for channel, _ in items]
        for begin in range(0, len(names), CHANNELS):
            yield names[begin : begin + CHANNELS]
