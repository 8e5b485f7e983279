"""The engine on Redis or Valkey: what the protocol asks for, out of the store, the feeds and the way to the servers.

It keeps no message: positions and history are the server's.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from triocast.core.message import Draft, Position
from triocast.core.presence import Member, Members, Reason
from triocast.core.steering import Order, Outcome
from triocast.engines import NOBODY, Audience, Host, NodeState, Page, Published
from triocast.engines.redis.census import Reporter, process_name
from triocast.engines.redis.cluster import ClusterRouter
from triocast.engines.redis.connection import Access
from triocast.engines.redis.delivery import Delivery
from triocast.engines.redis.keys import Keys
from triocast.engines.redis.line import Means
from triocast.engines.redis.orders import Orders
from triocast.engines.redis.roll_store import RollStore
from triocast.engines.redis.rollcall import Rollcall
from triocast.engines.redis.routing import OneServer, Router
from triocast.engines.redis.store import Store
from triocast.engines.redis.sweep import Sweep
from triocast.errors import EngineUnavailable
from triocast.inbox import Inbox, InboxClosed
from triocast.settings import Settings
from triocast.settings.redis_address import Kind, RedisAddress, parse_redis_address

FAREWELL = 1.0  # seconds, at most, for telling the servers that nobody is here any more


class RedisEngine:
    """Keeps groups on the server that `address` names (by default `settings.engine`). Many processes with the same
    address serve the same groups.

    `source` is what waits between attempts are drawn from. Raises `ValueError` for an address that is none.
    """

    name = "redis"
    at_once = False
    remembers = True

    def __init__(
        self, settings: Settings, address: RedisAddress | str | None = None, *, source: random.Random | None = None
    ) -> None:
        named = settings.engine or "" if address is None else address
        self.address = parse_redis_address(named) if isinstance(named, str) else named
        self.process = process_name()
        access = Access(self.address.login, self.address.db, self.address.tls)
        chance = source or random.Random()  # noqa: S311 - it spreads attempts, nothing more
        means = Means(access, settings.engine_timeout, chance)
        self.router = new_router(self.address, means)
        keys = Keys(self.address.prefix)
        self.store = Store(self.router, settings, keys, idempotency_keys=settings.idempotency_keys)
        self._orders = Orders(self.router, keys, self.process)
        self._delivery = Delivery(self.router, self.store, keys, settings.engine_timeout, [self._orders])
        self._host: Host = NOBODY
        self._rolls = RollStore(self.router, keys, self.process)
        self._rollcall = Rollcall(self._rolls, self.process, settings)
        self._sweep = Sweep(self._rolls, self.process, self._rollcall)
        self._timeout = settings.engine_timeout

    def __repr__(self) -> str:
        return f"<RedisEngine {self.address} {'connected' if self.connected else f'not connected: {self.why}'}>"

    @property
    def connected(self) -> bool:
        """Whether every group can be published to, and each that has members here hears what is."""
        return not self.why

    @property
    def why(self) -> str:
        """What is the matter; nothing while it is connected."""
        if self.router.why:
            return self.router.why
        return f"{self.unsubscribed} groups are not subscribed to at the moment" if self.unsubscribed else ""

    @property
    def nodes(self) -> Sequence[NodeState]:
        """The state of each server."""
        return self.router.nodes

    @property
    def unsubscribed(self) -> int:
        """How many groups with members here do not hear at the moment what is published."""
        return self._delivery.unsubscribed

    async def run(self, host: Host = NOBODY, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep up the connections until cancelled; begins without a server that can't be reached in time."""
        self._host = host
        reporter = Reporter(self.store, self.process, host.counts)
        way = trio.CancelScope(shield=True)  # its deadline comes when all else is over
        async with trio.open_nursery() as lasting:
            lasting.start_soon(_run_in, way, self.router)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._delivery.run)
                    nursery.start_soon(reporter.run)
                    nursery.start_soon(self._orders.run, host)
                    nursery.start_soon(self._rollcall.run, host)
                    nursery.start_soon(self._sweep.run, host)
                    with trio.move_on_after(self._timeout), suppress(EngineUnavailable):  # the log says why
                        await self.router.wait_ready()
                    task_status.started()
            finally:
                way.deadline = trio.current_time() + FAREWELL
                with trio.CancelScope(shield=True, deadline=way.deadline):
                    async with trio.open_nursery() as leaving:
                        leaving.start_soon(self._orders.leave)
                        leaving.start_soon(reporter.leave)
                        leaving.start_soon(self._rollcall.leave, host)
                way.cancel()

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        """Deliver what is published from here on to `inbox`; a lost connection is a pause, after which the group is
        told up to where to fetch.

        Raises `EngineUnavailable` while the server can't be reached.
        """
        follow = self._delivery.follow(group, inbox)
        try:
            yield await self._delivery.beginning(follow)
        finally:
            self._delivery.leave(follow)

    async def publish(self, group: str, draft: Draft) -> Published:
        """Publish, in one step on the server, once the group's inbox here has a place.

        Raises `EngineUnavailable` when nothing was published, and `UnknownOutcome` when that can't be known.
        """
        inbox = self._delivery.inbox_of(group)
        if inbox is not None and len(inbox) >= inbox.size and not self.router.why:
            await self._wait_for_a_place(group, inbox)
        return await self.store.publish(group, draft)

    async def _wait_for_a_place(self, group: str, inbox: Inbox) -> None:
        """Wait as the memory engine does, but keep none: a message takes its place when it comes back.

        Not for ever: whoever empties the inbox may be waiting for the server.
        """
        with trio.move_on_after(self._timeout) as patience, suppress(InboxClosed):
            await inbox.reserve()
            inbox.release()
        if patience.cancelled_caught:
            raise EngineUnavailable(f"the inbox of group {group!r} was full for {self._timeout:g} s; try again")

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        """Return whatever the server still has after the offset `after`, oldest first."""
        return await self.store.fetch(group, after, limit)

    async def read(self, group: str, after: int, limit: int) -> Page:
        """Return the messages kept after the offset `after`, oldest first."""
        return await self.store.read(group, after, limit)

    async def read_back(self, group: str, before: int | None, limit: int) -> Page:
        """Return the messages kept before the offset `before`, newest first."""
        return await self.store.read_back(group, before, limit)

    async def last_values(self, group: str, after: int, limit: int) -> Page:
        """Return the last values after the offset `after`, oldest first."""
        return await self.store.last_values(group, after, limit)

    async def order(self, order: Order) -> Outcome:
        """Have all processes carry it out. A connection that is here is parted with at once, whoever can be reached."""
        here = 0 if order.client is None else await self._host.obey(order)
        return Outcome(here) if here else await self._orders.ask(order)

    async def census(self, groups: Sequence[str]) -> Mapping[str, Mapping[str, Audience]]:
        """Return what each process, this one too, has last reported of each of the groups."""
        return await self.store.census(groups)

    async def listed(self, after: str | None, limit: int) -> Sequence[str]:
        """Return the first names after the name `after` of groups that processes have reported."""
        return await self.store.listed(after, limit)

    def enter(self, group: str, member: Member) -> None:
        """Take note of a member; the server is told next."""
        self._rollcall.enter(group, member)

    def depart(self, group: str, client: str, reason: Reason) -> None:
        """Take note that it is gone; the server is told next."""
        self._rollcall.depart(group, client, reason)

    async def members(self, group: str, after: str | None, limit: int) -> Members:
        """Return the members of all processes after the connection `after`."""
        return await self._rolls.page(group, after, limit)

    async def position(self, group: str) -> Position:
        """Return where the group stands; an unknown group has the empty epoch."""
        return await self.store.position(group)


async def _run_in(scope: trio.CancelScope, router: Router) -> None:
    with scope:
        await router.run()


def new_router(address: RedisAddress, means: Means) -> Router:
    """Return the way to the servers of an address."""
    if address.kind is Kind.CLUSTER:
        return ClusterRouter(address.places, means)
    return OneServer(address, means)
