"""Every engine there is, and what their suites are made of."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing

from tests.engines.unkind import UnkindEngine
from tests.redis_servers import Cluster, Server
from triocast import (
    Gap,
    Message,
    Settings,
)
from triocast.connection import open_connection
from triocast.engines import Engine
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.testing import MemoryTransport

MakeEngine = Callable[[Settings], Engine]

IN_MEMORY: dict[str, MakeEngine] = {
    "memory": MemoryEngine,
    **{f"unkind-{seed}": lambda settings, seed=seed: UnkindEngine(settings, seed) for seed in range(5)},
}
ON_SERVERS = ("valkey", "valkey_cluster", "debian_redis")


def url_of(server: Server | Cluster) -> str:
    if isinstance(server, Server):
        return f"redis://127.0.0.1:{server.port}"
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in server.nodes)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; for what another task or a server is about to do."""
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.001)


async def running(engine: Engine, nursery: trio.Nursery) -> Engine:
    await nursery.start(engine.run)
    return engine


def seen(transport: MemoryTransport) -> list[int | tuple[int, int]]:
    """Offsets of messages, and first and last of gaps, in the order the client got them."""
    told: list[int | tuple[int, int]] = []
    for entry in transport.received:
        assert isinstance(entry, Message | Gap)
        told.append(entry.offset if isinstance(entry, Message) else (entry.first, entry.last))
    return told


def covered(transport: MemoryTransport) -> list[int]:
    """Every offset that was delivered or named by a gap."""
    spans = (each if isinstance(each, tuple) else (each, each) for each in seen(transport))
    return [offset for first, last in spans for offset in range(first, last + 1)]


async def member(hub: Hub, group: str, transport: MemoryTransport, task_status: trio.TaskStatus[None]) -> None:
    async with open_connection(hub, transport) as connection:
        await connection.join(group)
        task_status.started()
        await trio.sleep_forever()
