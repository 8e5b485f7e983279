"""A server, or an application of the examples, in a process of its own, and the ways to cut it off from its clients.

It knows no client: what comes back may be a page or a program.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.browsers.network import Network
from tests.e2e.processes import Server, ask, running

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Publish = Callable[[int], Awaitable[None]]
"""Publishes so many more messages."""


class Site:
    """A server that can be ended and begun again, and the address at which it is found through the network.

    `command` is what runs it.
    """

    def __init__(self, command: Sequence[str], nursery: trio.Nursery) -> None:
        self.command = command
        self._nursery = nursery
        self.way = Network()
        self.server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.way.port}"

    async def begin(self) -> None:
        """Start a server, which knows nothing of any before it, and let the network lead there."""
        self.server = await self._nursery.start(self._serve)
        self.way.target = self.server.port

    async def _serve(self, *, task_status: trio.TaskStatus[Server]) -> None:
        async with running(*self.command) as program:
            listening = await program.wait_for(r"http://127\.0\.0\.1:(\d+)")
            task_status.started(Server(program, int(listening[1])))
            await trio.sleep_forever()

    async def end(self, number: int) -> None:
        """End the server by a signal."""
        await self.server.program.end(number)

    async def publish(self, path: str, text: str, *headers: str) -> None:
        """Publish to the server itself, past the network."""
        status, answer = await ask(self.server.port, "POST", path, text.encode(), *headers)
        assert status == 200, answer


@asynccontextmanager
async def site(example: str) -> AsyncIterator[Site]:
    """Serve an example while the block lasts."""
    async with site_of(sys.executable, "-m", "tests.browsers.serve", str(EXAMPLES / f"{example}.py")) as one:
        yield one


@asynccontextmanager
async def site_of(*command: str) -> AsyncIterator[Site]:
    """Serve what a command serves, which says at which address, while the block lasts."""
    async with trio.open_nursery() as nursery:
        one = Site(command, nursery)
        async with one.way.open():
            await one.begin()
            yield one
        nursery.cancel_scope.cancel()


Away = Callable[[], Awaitable[None]]
"""Waits until the client knows that it is cut off."""


async def killed(site: Site, away: Away, publish: Publish) -> None:
    """The connection is reset, and the next is slow to begin."""
    site.way.kill()
    site.way.freeze()
    await away()
    await publish(3)
    site.way.heal()


async def cut_off(site: Site, away: Away, publish: Publish) -> None:
    """The network swallows all for a while, then fails, then heals."""
    site.way.freeze()
    await publish(2)  # the server cannot know that nobody gets these
    site.way.fail()
    await away()
    await site.way.wait_refused()
    await publish(2)
    site.way.heal()


async def unavailable(site: Site, away: Away, publish: Publish) -> None:
    """A load balancer has lost its server for a while, and says so: an EventSource gives up then."""
    site.way.fail(UNAVAILABLE)
    await away()
    await site.way.wait_refused()
    await publish(3)
    site.way.heal()


async def restarted(site: Site, away: Away, publish: Publish) -> None:
    """The server says that it stops, stops, and another takes its place."""
    await site.end(signal.SIGTERM)
    await away()
    await site.begin()
    await publish(3)


async def crashed(site: Site, away: Away, publish: Publish) -> None:
    """The server is gone from one moment to the next; the way to another is open only when that has news."""
    await site.end(signal.SIGKILL)
    await away()
    site.way.fail()
    await site.begin()
    await publish(3)
    site.way.heal()


Cut = Callable[[Site, Away, Publish], Awaitable[None]]
SAME_SERVER: list[Cut] = [killed, cut_off, unavailable]
ANOTHER_SERVER: list[Cut] = [restarted, crashed]
