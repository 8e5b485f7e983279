"""Keeps one connection to one server up: connects again with its own backoff, and ends a connection that is silent.

It knows nothing of what is said over it.
"""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio
from coredis.exceptions import RedisError

from triocast.engines.redis.connection import Access, Connection, Reply, new_connection
from triocast.engines.redis.reasons import CLOSED, describe
from triocast.errors import EngineUnavailable
from triocast.settings.redis_address import Place

IDLE = 5.0  # seconds of silence, at most, after which a server is asked whether it is there
LOOKS = 5  # looks at a connection in the time that an answer may take: how late, at most, its silence is noticed
FIRST_WAIT = 0.1  # seconds until the second attempt, at most: a server that restarts is back at once
LONGEST_WAIT = 3.0  # seconds between two attempts, at most: nobody waits longer for a server that is back
STEADY = 5.0  # seconds; a connection that broke sooner was no success

logger = logging.getLogger("triocast.redis")

Locate = Callable[[], Awaitable[Place]]
"""Finds out where the server is, before each attempt. Raises `EngineUnavailable`."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every connection of an engine is made with; `timeout` in seconds is what a server has for an answer."""

    access: Access
    timeout: float
    source: random.Random


class Backoff:
    """Exponential, fully jittered: processes that lost their server together do not come back together."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._ceiling = FIRST_WAIT

    def after(self, lasted: float) -> float:
        """Return the seconds to wait after a connection of `lasted` seconds (0 if there was none)."""
        if lasted >= STEADY:
            self._ceiling = FIRST_WAIT
        wait = self._random.uniform(self._ceiling / 4, self._ceiling)
        self._ceiling = min(LONGEST_WAIT, self._ceiling * 2)
        return wait


class Line(ABC):
    """One connection at a time to one server. `run` it; `connection` is there while it is up."""

    def __init__(self, name: str, locate: Locate, means: Means) -> None:
        self.name = name
        self.connection: Connection | None = None
        self.place: Place | None = None
        """Where the connection leads, or the last one did."""
        self.since = 0.0
        """When it went up, or down; trio's clock."""
        self.changed = trio.Event()
        """Set, and another one there, when it goes up or down."""
        self.means = means
        self._locate = locate
        self._ended = ""
        self._last_why = "not connected yet"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {'up' if self.up else f'down: {self.why}'}>"

    @property
    def up(self) -> bool:
        """Whether something can be sent."""
        return self.connection is not None and self.connection.usable

    @property
    def why(self) -> str:
        """What is the matter, while it is down."""
        if self.connection is None:
            return self._last_why
        return self._ended or self.connection.over or CLOSED

    async def run(self) -> None:
        """Keep it up until cancelled."""
        self.since = trio.current_time()
        backoff = Backoff(self.means.source)
        while True:
            began = trio.current_time()
            was_up = await self._connect_once()
            lasted = trio.current_time() - began if was_up else 0.0
            await trio.sleep(backoff.after(lasted))

    def drop(self, why: str) -> None:
        """End the connection that there is, so that the server is looked for anew."""
        if self.connection is not None:
            self._ended = why
            self.connection.give_up(why)

    async def wait_up(self) -> None:
        """Wait until something can be sent, for as long as an answer may take. Raises `EngineUnavailable`."""
        with trio.move_on_after(self.means.timeout):
            while not self.up:
                await self.changed.wait()
        if not self.up:
            raise self.unavailable()

    def unavailable(self) -> EngineUnavailable:
        """Return the error that says that this server can't be reached."""
        return EngineUnavailable(f"{self.name} can't be reached: {self.why}")

    async def live(self, connection: Connection) -> None:  # noqa: ARG002 - for those who have something to do
        """Do what is to be done while the connection is up; cancelled when it ends."""
        await trio.lowlevel.checkpoint()

    @abstractmethod
    def told(self, replies: Sequence[Reply]) -> None:
        """Take what came unasked for."""

    @abstractmethod
    def greet(self, connection: Connection) -> None:
        """Ask the server for a sign of life."""

    @abstractmethod
    def asked(self, connection: Connection) -> float | None:
        """Return since when an answer is waited for."""

    async def _connect_once(self) -> bool:
        """Connect, and stay until the connection ends; whether there was one."""
        connection: Connection | None = None
        was_up = False
        self._ended = ""
        try:
            async with trio.open_nursery() as nursery:
                self.place = await self._locate()
                connection = new_connection(self.place, self.means.access, self.means.timeout, self.told)
                nursery.start_soon(self._watch, connection)
                await nursery.start(self._run, connection, nursery)
                was_up = True
                self._goes_up(connection)
                nursery.start_soon(self.live, connection)
        except* (RedisError, OSError) as group:
            self._ended = self._ended or describe(_first(group))
        except* EngineUnavailable as group:
            self._ended = str(_first(group))
        finally:
            self.connection = None
        await trio.lowlevel.checkpoint_if_cancelled()  # coredis makes an error of it
        self._goes_down(self._ended or (connection.over if connection else "") or CLOSED, was_up)
        return was_up

    async def _run(self, connection: Connection, nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        await connection.run(task_status=task_status)
        nursery.cancel_scope.cancel()

    async def _watch(self, connection: Connection) -> None:
        """Ask whether the server is there when it has been silent, and give it up when it does not answer."""
        timeout = self.means.timeout
        began = trio.current_time()
        while True:
            await trio.sleep(timeout / LOOKS)
            now = trio.current_time()
            asked = self.asked(connection) if connection.usable else began
            if asked is not None and now - asked >= timeout:
                self._ended = f"no answer for {timeout:g} s"
                connection.give_up(self._ended)
            elif asked is None and now - connection.heard >= min(IDLE, timeout):
                self.greet(connection)

    def _goes_up(self, connection: Connection) -> None:
        self.connection = connection
        self.since = trio.current_time()
        logger.info("connected to %s", self.name, extra={"server": str(self.place)})
        self._change()

    def _goes_down(self, why: str, was_up: bool) -> None:
        if was_up:
            self.since = trio.current_time()
        if was_up or self._last_why != why:
            logger.warning("no connection to %s: %s", self.name, why, extra={"server": str(self.place)})
        self._last_why = why
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


def _first(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
