"""What one server tells: its feed connection, the channels subscribed to there, and looks at what they may have missed.

It never waits for a group: what has no place in an inbox is fetched by the group.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice

import trio
from coredis.exceptions import ConnectionError as NotConnected

from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.connection import Connection, Reply, error_text
from triocast.engines.redis.follow import Follow
from triocast.engines.redis.line import Line
from triocast.engines.redis.routing import Router
from triocast.engines.redis.store import Head, Store
from triocast.engines.redis.wire import Wire, reason_of
from triocast.errors import EngineError, EngineUnavailable, UnknownOutcome
from triocast.settings.redis_address import Place

ROUND = 2_000  # channels that are subscribed to before their acknowledgements are waited for: some 200 KB
CHANNELS = 500  # channels in one command: a server does nothing else meanwhile
LOOKED_AT = 500  # groups that the store is asked about at once: publishes wait behind so many small requests
CHECK_EVERY = 25.0  # seconds in which every group's head is compared with the server's
SLICES = 50  # pieces of that, so that not all groups are looked at at once
AGAIN = 0.25  # seconds until what failed is tried again
MARK = b"triocast:mark"  # a channel that nobody subscribes to: leaving it is answered, in order, behind all before

# Why a channel was refused that is only somewhere else, or will be there again soon.
_ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"})

logger = logging.getLogger("triocast.redis")


class Feed(Line):
    """The feed connection to the server of `wire`. `run` it; `add` and `remove` at any time."""

    def __init__(self, wire: Wire, store: Store, router: Router) -> None:
        super().__init__(f"the feed of {wire.name}", self._where_the_wire_is, wire.means)
        self._wire = wire
        self._store = store
        self._router = router
        self._wanted: dict[bytes, Follow] = {}  # by channel
        self._fresh: dict[bytes, Follow] = {}  # to be subscribed to
        self._stale: dict[bytes, int] = {}  # to be left, with their partitions
        self._leaving: dict[bytes, int] = {}  # being left
        self._acknowledged: set[bytes] = set()
        self._refused: list[RedisRefused] = []
        self._unseen: dict[bytes, Follow] = {}  # to be asked about at the store
        self._marks: deque[tuple[float, trio.Event]] = deque()  # not answered yet, and since when
        self._work = trio.Event()
        self._looking = trio.Event()

    def add(self, follow: Follow) -> None:
        """Subscribe to the group's channel, in place of who followed it before; ready once it is live."""
        self._wanted[follow.names.channel] = self._fresh[follow.names.channel] = follow
        self._work.set()

    def remove(self, follow: Follow) -> None:
        """Leave the group's channel, unless somebody else follows it by now."""
        channel = follow.names.channel
        if self._wanted.get(channel) is follow:
            del self._wanted[channel]
            self._fresh.pop(channel, None)
            self._unseen.pop(channel, None)
            follow.live = False
            self._stale[channel] = follow.names.partition
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
            for follow in self._wanted.values():
                follow.live = False

    def told(self, replies: Sequence[Reply]) -> None:
        """Deliver what was published, and note what was acknowledged or refused."""
        for reply in replies:
            if isinstance(reply, Exception):
                self._refused.append(RedisRefused(error_text(reply)))
                continue
            what, channel, *rest = reply
            if what == b"smessage":
                follow = self._wanted.get(channel)
                if follow is not None:
                    follow.told(rest[0])
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
            for channels in _batches((channel, follow.names.partition) for channel, follow in fresh.items()):
                connection.tell(b"SSUBSCRIBE", *channels)
            await self._mark(connection).wait()
            self._leaving = {}
            self._sort(fresh)
            if self._refused:
                await trio.sleep(AGAIN)

    def _sort(self, fresh: dict[bytes, Follow]) -> None:
        """Go on with what was acknowledged; what was not is tried again, here or where it is by then."""
        final = next((each for each in self._refused if reason_of(each) not in _ELSEWHERE), None)
        for channel, follow in fresh.items():
            if self._wanted.get(channel) is not follow:
                continue
            if channel in self._acknowledged:
                self._unseen[channel] = follow
                continue
            self._try_again(follow)
            if final is not None:
                logger.error("a group can't be subscribed to: %s", final, extra={"group": follow.group})
                follow.fail(final)
        self._acknowledged.clear()
        self._looking.set()

    def _try_again(self, follow: Follow) -> None:
        follow.live = False
        self._fresh[follow.names.channel] = follow
        self._work.set()
        self._router.look_again()

    def _left(self, channel: bytes) -> None:
        """A channel is left: as we wished, or because a Cluster has moved its slot to another server."""
        follow = self._wanted.get(channel)
        if follow is not None and channel not in self._leaving:
            self._try_again(follow)

    async def _look(self) -> None:
        """Ask the store about groups, until it has answered for each."""
        while True:
            self._looking = trio.Event()
            if not self._unseen:
                await self._looking.wait()
            some = _taken(self._unseen, LOOKED_AT)
            async with trio.open_nursery() as nursery:
                for follow in some.values():
                    nursery.start_soon(self._look_at, follow)
            if any(channel in self._unseen for channel in some):
                await trio.sleep(AGAIN)

    async def _look_at(self, follow: Follow) -> None:
        try:
            if not follow.ready.is_set() or follow.known is None:
                head = await self._store.attach(follow.group)
            else:
                head = (await self._store.check(follow.group, Head(follow.head, follow.known))).head
        except (EngineUnavailable, UnknownOutcome):
            if self._wanted.get(follow.names.channel) is follow:
                self._unseen[follow.names.channel] = follow
        except EngineError as error:
            logger.exception("a group's position can't be had", extra={"group": follow.group})
            follow.fail(error)
        else:
            if self._wanted.get(follow.names.channel) is follow and follow.names.channel not in self._fresh:
                follow.resume()
            follow.stands(head)

    async def _check_all(self) -> None:
        """Look at every group in a while: a server that lost its last writes need not have been away."""
        while True:
            follows = list(self._wanted.values())
            size = -(-len(follows) // SLICES) or 1
            for begin in range(0, max(len(follows), size * SLICES), size):
                await trio.sleep(CHECK_EVERY / SLICES)
                some = (follow for follow in follows[begin : begin + size] if follow.live)
                self._unseen.update((follow.names.channel, follow) for follow in some)
                self._looking.set()

    def _mark(self, connection: Connection) -> trio.Event:
        event = trio.Event()
        self._marks.append((trio.current_time(), event))
        with suppress(NotConnected):  # whoever waits is cancelled with the connection
            connection.tell(b"UNSUBSCRIBE", MARK)
        return event


def _taken(channels: dict[bytes, Follow], most: int) -> dict[bytes, Follow]:
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
