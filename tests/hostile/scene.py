"""A served application with a witness connected to it, attackers beside it, and a look at what they left behind.

It knows no attack: the tables and tests do.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import trio
import trio.testing

from tests.hostile.attacker import KIB, MIB, Attacker, Case, tcp, upgrade
from tests.link.harness import TEXT, Client
from tests.memory import flat_memory as flat
from tests.served import PATIENCE, Served, served
from triocast.settings import GroupSettings, Settings

flat_memory = partial(flat, 4 * MIB)
"""What may be held at most while somebody pours tens of MB: a few reads, a group's log, and this process's noise."""

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""The TLS contexts of a server and of its clients."""

# What is to be given up on is given up on soon. Those that the witness and the questions of `aftermath` depend on are
# longer than any turn of the event loop.
HASTY = Settings(
    max_message=64 * KIB,
    max_lag=64,
    max_lag_bytes=128 * KIB,
    history_bytes=128 * KIB,
    header_timeout=0.2,
    body_timeout=0.2,
    write_timeout=0.2,
    keep_alive=0.1,
    close_timeout=0.1,
    namespaces=MappingProxyType(
        {
            "chat": GroupSettings(
                client_publish=True, max_lag=64, max_lag_bytes=128 * KIB, history_size=10, history_bytes=128 * KIB
            )
        }
    ),
)


@dataclass(frozen=True)
class Leftovers:
    """What an attack may have left: counts of what is alive in this process."""

    links: int
    connections: int
    groups: int
    tasks: int
    descriptors: int


class Log(logging.Handler):
    """Keeps what an operator would rather not see because of a client: warnings and worse, and every traceback."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.alarms: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or record.exc_info:
            self.alarms.append(logging.Formatter().format(record))


@dataclass
class Scene:
    """What a test of hostile bytes has in hand."""

    served: Served
    witness: Client
    log: Log
    before: Leftovers
    nursery: trio.Nursery
    published: int = field(default=0)

    @asynccontextmanager
    async def attacker(self, *, reads: bool = True, raw: bool = False) -> AsyncIterator[Attacker]:
        """Connect an attacker, which leaves at the end of the block; `raw` speaks no TLS whatever the server does.

        One that does not read has a small receive buffer, so that what is written to it is soon stuck.
        """
        stream = await (tcp(self.served.port, None if reads else 4096) if raw or not reads else self.served.connect())
        attacker = Attacker(stream)
        with trio.CancelScope() as scope:
            if reads:
                self.nursery.start_soon(attacker.read_on)
            try:
                yield attacker
            finally:
                await trio.aclose_forcefully(stream)
                scope.cancel()
        assert b"Traceback" not in attacker.received
        assert b'File "' not in attacker.received

    async def run(self, case: Case, *, raw: bool = False, lingers: bool = False) -> None:
        """Let an attacker do what the case says, and look at what is left.

        One who `lingers` keeps its side of the connection open when the server has ended the other.
        """
        async with self.attacker(raw=raw) as attacker:
            await attacker.send(*case.packets)
            if case.answer:
                await attacker.until(case.answer)
            if not case.stays:
                await attacker.until_end()
            if lingers:
                await self.alone()
        await self.aftermath()

    async def alone(self) -> None:
        """Wait until the server has no connection but the witness's."""
        await self.served.wait_connections(1)

    async def aftermath(self) -> None:
        """See that the witness gets a message, that the server answers, and that nothing is left of anybody else."""
        await self.ask()
        await self._settled()
        assert not self.log.alarms, "\n".join(self.log.alarms)

    async def ask(self) -> None:
        """Publish to the witness's group, and look whether the server is in good health."""
        self.published += 1
        text = b"message %d" % self.published
        answer = await self.served.request(
            b"POST /publish/witness HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
            + b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert answer.count(b"HTTP/1.1 200 ") == 2, answer
        assert b'"subscribers":1,' in answer
        with trio.fail_after(PATIENCE):
            assert await self.witness.frame() == (TEXT, text)

    async def _settled(self) -> None:
        """Wait until all that lives is what lived before; tasks and descriptors go a moment after their connection."""
        with trio.move_on_after(PATIENCE):
            while leftovers(self.served) != self.before:
                await trio.sleep(0.001)
        assert leftovers(self.served) == self.before


@asynccontextmanager
async def scene(
    settings: Settings = HASTY,
    *,
    tls: Contexts | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[Scene]:
    """Serve with a witness, over TLS if there are contexts for it."""
    server, trust = tls or (None, None)
    with logged() as log:
        async with (
            served(settings, tls=server, trust=trust, send_buffer=send_buffer) as one,
            trio.open_nursery() as nursery,
        ):
            witness = Client(await one.connect())
            nursery.start_soon(_close_at_the_end, witness)
            await witness.send(upgrade("/ws/witness"))
            assert b" 101 " in await witness.until(b"\r\n\r\n")
            now = Scene(one, witness, log, await _at_rest(one), nursery)
            await now.ask()  # over TLS its connection's writer begins with its first message
            now.before = await _at_rest(one)
            await now.aftermath()  # to see that it sees nothing before anything was done
            yield now
            nursery.cancel_scope.cancel()


async def _close_at_the_end(client: Client) -> None:
    try:
        await trio.sleep_forever()
    finally:
        await trio.aclose_forcefully(client.stream)


async def _at_rest(one: Served) -> Leftovers:
    """Wait until the witness is all there is: a member, and every task of its connection started."""
    with trio.fail_after(PATIENCE):
        while True:
            found = leftovers(one)
            await trio.testing.wait_all_tasks_blocked(0.01)
            if (found.links, found.connections, found.groups) == (1, 1, 1) and leftovers(one) == found:
                return found


def leftovers(one: Served) -> Leftovers:
    """Count what is alive."""
    return Leftovers(
        links=len(one.host),
        connections=one.hub.connections,
        groups=one.hub.groups,
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=len(os.listdir("/dev/fd")),
    )


@contextmanager
def logged() -> Iterator[Log]:
    """Collect what is logged, as a server with the settings it comes with would log it."""
    root, log = logging.getLogger(), Log()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.INFO)
    try:
        yield log
    finally:
        root.setLevel(level)
        root.removeHandler(log)


def hasty(**changes: object) -> Settings:
    """Return HASTY with other values."""
    return replace(HASTY, **changes)  # type: ignore[arg-type]
