"""What happens to the servers of a soak: each case breaks something under load and returns the account of it.

How long a case takes is given in seconds of load between two faults; what must have happened is waited for, so that a
short run is as sure as a long one.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.e2e.crews import Crew
from tests.e2e.processes import serving
from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import Server as Redis
from tests.redis_servers import serving_redis, until, valkey_program
from tests.soak.load import Load, Size, loaded
from tests.soak.verdict import Verdict

LONG = 300.0  # seconds until something has not happened that takes as long as the machine is busy
OPTIONS = ("--log-format", "json", "--log-level", "info")


@dataclass(frozen=True)
class Plan:
    """How long, and how much."""

    size: Size = field(default_factory=Size)
    between: float = 5.0
    """Seconds of load between two faults."""
    faults: int = 12
    outage: float = 10.0
    """Seconds for which Valkey can't be reached."""
    timeout: float = 5.0
    """Seconds that Valkey has for an answer."""


@dataclass
class Scene:
    """A server with workers, under load."""

    load: Load
    crew: Crew

    async def finish(self, case: str) -> Outcome:
        return Outcome(case, await self.load.finish(), self.load)


@dataclass
class Outcome:
    """What came of a case."""

    case: str
    verdict: Verdict
    load: Load

    def __str__(self) -> str:
        words = [f"{self.case}: {self.verdict}; repeated publishes {self.load.refused}"]
        if self.load.connected:
            words.append(
                f"connected {self.load.connected}, not connected {self.load.not_connected}, "
                f"slowest {self.load.slowest:.2f} s, longest without {self.load.longest_wait:.2f} s"
            )
        return "; ".join(words)


@asynccontextmanager
async def scene(plan: Plan, *options: str, workers: int = 2) -> AsyncIterator[Scene]:
    """Run a server with workers under load while the block lasts."""
    words = ("--workers", str(workers), "--engine-timeout", str(plan.timeout), *OPTIONS, *options)
    async with serving(*words) as server, loaded(server.port, plan.size) as load:
        await load.more(plan.between)
        yield Scene(load, Crew(server.program, server.port))


@asynccontextmanager
async def on_valkey(plan: Plan, *options: str, workers: int = 2) -> AsyncIterator[tuple[Scene, Redis, Proxy]]:
    """A server whose Valkey is behind a proxy."""
    with serving_redis(valkey_program(), *options) as valkey:
        async with proxied(valkey.port) as proxy:
            async with scene(plan, "--engine", f"redis://127.0.0.1:{proxy.port}", workers=workers) as stage:
                yield stage, valkey, proxy


async def restart(valkey: Redis, load: Load) -> None:
    """Kill it as a crash does, and start it again once that is noticed."""
    valkey.kill()
    await load.refusals()
    await trio.to_thread.run_sync(valkey.start)


async def aof(plan: Plan, appendfsync: str = "always") -> Outcome:
    """Valkey is killed and started again, cut off by a network that goes silent, then by one that refuses; killed."""
    async with on_valkey(plan, "--appendonly", "yes", "--appendfsync", appendfsync) as (stage, valkey, proxy):
        load = stage.load
        await restart(valkey, load)
        await load.more(plan.between)
        proxy.go_silent()
        await load.refusals()
        await trio.sleep(plan.outage)
        proxy.mend()  # what was held back arrives late
        await load.more(plan.between)
        proxy.refusing = True
        proxy.cut()
        await load.refusals()
        await trio.sleep(plan.outage)
        proxy.mend()
        await load.more(plan.between)
        await restart(valkey, load)
        await load.more(plan.between)
        return await stage.finish(f"aof ({appendfsync})")


async def embedded(plan: Plan) -> Outcome:
    """The workers' own Valkey is killed again and again."""
    houses = _houses()
    async with scene(plan) as stage:
        (house,) = _houses() - houses
        for fault in range(1, plan.faults + 1):
            os.kill(await _pid_of_valkey(house), signal.SIGKILL)
            await stage.crew.program.wait_for("the workers' Valkey is back", times=fault)
            await stage.load.more(plan.between)
        return await stage.finish("embedded")


async def emptied(plan: Plan) -> Outcome:
    """Valkey is emptied while everybody is connected to it, and while nobody is."""
    async with on_valkey(plan) as (stage, valkey, proxy):
        valkey.admin.flushall()
        await stage.load.more(plan.between)
        proxy.refusing = True
        proxy.cut()
        await stage.load.refusals()
        valkey.admin.flushall()
        await trio.sleep(plan.outage)
        proxy.mend()
        await stage.load.more(plan.between)
        return await stage.finish("emptied")


async def failover(plan: Plan) -> Outcome:
    """The primary dies and a replica takes its address that has not heard of its last writes."""
    async with AsyncExitStack() as stack:
        stage, primary, proxy = await stack.enter_async_context(on_valkey(plan, "--repl-diskless-sync-delay", "0"))
        link = await stack.enter_async_context(proxied(primary.port))
        words = ("--replicaof", f"127.0.0.1 {link.port}", "--repl-diskless-sync-delay", "0")
        replica = stack.enter_context(serving_redis(valkey_program(), *words))
        await trio.to_thread.run_sync(until, lambda: _in_step(replica), "the replica is in step")
        await stage.load.more(plan.between)
        link.refusing = True
        link.cut()
        await _every_group_goes_on(stage.load)
        primary.kill()
        replica.admin.execute_command("REPLICAOF NO ONE")
        proxy.to = replica.port
        await stage.load.more(plan.between)
        return await stage.finish("failover")


async def workers(plan: Plan) -> Outcome:
    """A worker is killed, then the other, and so on."""
    async with on_valkey(plan) as (stage, _, _):
        for fault in range(plan.faults):
            number = fault % 2 + 1
            started = len(stage.crew.pids(number))
            os.kill(stage.crew.pid(number), signal.SIGKILL)
            await stage.crew.wait_started(number, started + 1)
            await stage.load.more(plan.between)
        return await stage.finish("workers")


async def rolling(plan: Plan, workers: int = 4) -> Outcome:
    """The workers are replaced one after the other, while somebody connects all the time."""
    async with on_valkey(plan, workers=workers) as (stage, _, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.load.keep_connecting)
            for fault in range(1, plan.faults + 1):
                stage.crew.program.process.send_signal(signal.SIGHUP)
                await stage.crew.program.wait_for("rolling restart done", times=fault, patience=LONG)
                await stage.load.more(plan.between)
            nursery.cancel_scope.cancel()
        return await stage.finish("rolling")


CASES: dict[str, Callable[[Plan], Awaitable[Outcome]]] = {
    "aof": aof,
    "aof-everysec": lambda plan: aof(plan, "everysec"),
    "aof-no": lambda plan: aof(plan, "no"),
    "embedded": embedded,
    "emptied": emptied,
    "failover": failover,
    "workers": workers,
    "rolling": rolling,
}


async def _every_group_goes_on(load: Load) -> None:
    """Wait until each group has a message more: what the replica never hears of."""
    before = {group: len(load.receipts.get(group, {})) for group in load.groups}
    while any(len(load.receipts.get(group, {})) == count for group, count in before.items()):
        await load.more(0)


def _in_step(replica: Redis) -> bool:
    return bool(replica.admin.info("replication")["master_link_status"] == "up")


def _houses() -> set[Path]:
    return {roster.parent for roster in Path(tempfile.gettempdir()).glob("triocast-*/roster.json")}


async def _pid_of_valkey(house: Path) -> int:
    async with await trio.open_unix_socket(str(house / "valkey")) as stream:
        await stream.send_all(b"INFO server\r\nQUIT\r\n")
        answer = bytearray()
        async for piece in stream:
            answer += piece
    found = re.search(rb"process_id:(\d+)", answer)
    assert found is not None
    return int(found[1])
