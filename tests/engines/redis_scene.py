"""A place for the tests of the store: a server of some kind, a caller that reaches it, and what it tells its channels.

The caller is as plain as can be: it never connects again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from coredis.connection import BaseConnection, UnixDomainSocketConnection, UnixDomainSocketLocation
from coredis.exceptions import RedisError

from tests.redis_servers import Cluster, Server
from triocast import Settings
from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.keys import Keys
from triocast.engines.redis.store import Store

KEYS = Keys("t")


class PlainCaller:
    """Sends each command to the node of its partition, over one connection each."""

    def __init__(self, connections: Sequence[BaseConnection], place: Callable[[int], int]) -> None:
        self._connections = connections
        self._place = place

    async def call(self, partition: int, *command: bytes | str | int) -> Any:
        name, *arguments = command
        assert isinstance(name, bytes)
        try:
            return await self._connections[self._place(partition)].create_request(name, *arguments, decode=False)
        except RedisError as error:
            raise RedisRefused(str(error)) from error


@dataclass
class Scene:
    """The servers and a caller; `store` makes a store with settings."""

    nodes: list[Server]
    caller: PlainCaller
    _place: Callable[[int], int]

    def store(self, **values: Any) -> Store:
        settings = {name: value for name, value in values.items() if name not in ("idempotency_keys", "new_epoch")}
        own = {name: value for name, value in values.items() if name not in settings}
        return Store(self.caller, Settings(**settings), KEYS, **own)

    def node(self, group: str) -> Server:
        """Return the server that has the group."""
        return self.nodes[self._place(KEYS.of(group).partition)]

    @asynccontextmanager
    async def listening(self, group: str) -> AsyncIterator[Callable[[], Any]]:
        """Subscribe to the group's channel; gives a function that waits for the next payload."""
        async with _connected(self.node(group)) as connection:
            channel = KEYS.of(group).channel
            connection.send_command(b"SSUBSCRIBE", channel)
            told = connection.push_messages
            assert (await anext(told))[:2] == [b"ssubscribe", channel]

            async def heard() -> bytes:
                with trio.fail_after(30):
                    kind, where, payload = await anext(told)
                assert (kind, where) == (b"smessage", channel)
                assert isinstance(payload, bytes)
                return payload

            yield heard


@asynccontextmanager
async def scene_of(*nodes: Server) -> AsyncIterator[Scene]:
    """Connect to one server, or to the nodes of a cluster."""

    def place(partition: int) -> int:
        if len(nodes) == 1:
            return 0
        return nodes.index(Cluster(list(nodes)).node_of(f"{{{partition}}}"))

    known = {partition: place(partition) for partition in range(128)}
    async with trio.open_nursery() as nursery:
        connections = [_connection(node) for node in nodes]
        for connection in connections:
            await nursery.start(connection.run)
        yield Scene(list(nodes), PlainCaller(connections, known.__getitem__), known.__getitem__)
        nursery.cancel_scope.cancel()


def _connection(node: Server) -> BaseConnection:
    return UnixDomainSocketConnection(UnixDomainSocketLocation(str(node.path)))


@asynccontextmanager
async def _connected(node: Server) -> AsyncIterator[BaseConnection]:
    async with trio.open_nursery() as nursery:
        connection = _connection(node)
        await nursery.start(connection.run)
        yield connection
        nursery.cancel_scope.cancel()


def age(node: Server, group: str, milliseconds: int) -> None:
    """Make everything in the group's stream older: time that passes, for what is judged by it."""
    stream = KEYS.of(group).stream
    entries = node.admin.xrange(stream)
    ttl = node.admin.pttl(stream)
    with node.admin.pipeline() as pipe:
        pipe.delete(stream)
        for id_, fields in entries:
            parts = fields[b"m"].split(b" ", 6)
            parts[4] = b"%d" % (int(parts[4]) - milliseconds)
            pipe.xadd(stream, {b"m": b" ".join(parts), b"w": fields[b"w"]}, id=id_)
        if entries:
            pipe.pexpire(stream, ttl)
        pipe.execute()
