"""Two machines, as far as a network is concerned: servers in network namespaces on one Valkey, and a link that is cut.

It makes namespaces and links, which takes privileges; where there are none it says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.e2e.processes import Process, running
from tests.redis_servers import serving_redis, valkey_program
from tests.soak.cases import OPTIONS, Outcome, Plan
from tests.soak.load import Load, crowd, groups_of

PORT = 8000


class NotAllowed(Exception):
    """Network namespaces can't be made here."""


@dataclass(frozen=True)
class Machine:
    """A namespace with one link, to here; the addresses are of a range that is for tests of networks (RFC 2544)."""

    number: int

    @property
    def name(self) -> str:
        return f"push-{os.getpid()}-{self.number}"

    @property
    def link(self) -> str:
        return f"p{os.getpid()}-{self.number}"

    @property
    def ours(self) -> str:
        return f"198.18.{self.number}.1"

    @property
    def address(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def within(self) -> tuple[str, ...]:
        """What to write before a command to run it there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        _ip("link", "set", self.link, "up")


@contextmanager
def machine(number: int) -> Iterator[Machine]:
    """Make a machine for the block. Raises `NotAllowed`."""
    made = Machine(number)
    _ip("netns", "add", made.name)
    try:
        _ip("link", "add", made.link, "type", "veth", "peer", "name", "uplink", "netns", made.name)
        _ip("addr", "add", f"{made.ours}/30", "dev", made.link)
        _ip("-n", made.name, "addr", "add", f"{made.address}/30", "dev", "uplink")
        for device in ("lo", "uplink"):
            _ip("-n", made.name, "link", "set", device, "up")
        made.mend()
        yield made
    finally:
        _ip("netns", "del", made.name)  # and its link with it


async def machines(plan: Plan) -> Outcome:
    """One of two machines is cut off from Valkey; its clients stay, and what is published goes to the other."""
    async with AsyncExitStack() as stack:
        pair = [stack.enter_context(machine(number)) for number in (1, 2)]
        bind = ("--bind", "127.0.0.1", *(each.ours for each in pair), "--protected-mode", "no")
        valkey = stack.enter_context(serving_redis(valkey_program(), *bind))
        programs = [await stack.enter_async_context(_server(each, valkey.port, plan)) for each in pair]
        load = await stack.enter_async_context(_loaded(pair, plan))
        for fault in range(1, plan.faults + 1):
            await load.more(plan.between)
            pair[1].cut()
            await programs[1].wait_for("no connection to", times=2 * fault - 1)
            await load.more(plan.between)
            await trio.sleep(plan.outage)
            pair[1].mend()
        return Outcome("machines", await load.finish(), load)


@asynccontextmanager
async def _server(on: Machine, valkey: int, plan: Plan) -> AsyncIterator[Process]:
    words = ["--bind", f"0.0.0.0:{PORT}", "--insecure", "--engine", f"redis://{on.ours}:{valkey}", *OPTIONS]
    words += ["--engine-timeout", str(plan.timeout)]
    async with running(*on.within, sys.executable, "-m", "triocast", "serve", *words) as program:
        await program.wait_for("is listening on")
        yield program


@asynccontextmanager
async def _loaded(pair: list[Machine], plan: Plan) -> AsyncIterator[Load]:
    """Publish to the first machine, with clients on both: each on the machine of its server."""
    size = plan.size
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = [directory / each.name for each in pair]
        crowds = [
            await stack.enter_async_context(crowd(PORT, size.clients // 2, groups_of(size), file, *each.within))
            for each, file in zip(pair, files, strict=True)
        ]
        load = Load(pair[0].address, PORT, size, crowds, files)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(load.run)
        yield load
        nursery.cancel_scope.cancel()


def _ip(*words: str) -> None:
    if not shutil.which("ip"):
        raise NotAllowed("there is no program ip")
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAllowed(f"ip {' '.join(words)}: {done.stderr.strip()}")
