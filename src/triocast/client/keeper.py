"""Keeps a listener connected: one connection after the other, each beginning where the last one broke off.

How long to wait between them, and where each begins, is decided elsewhere; it gives nothing to a program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from triocast.client.attempt import Attempt, Connection
from triocast.client.backoff import Backoff, may_come_back
from triocast.client.beginning import Beginning, since_parameters
from triocast.client.course import Course, Step
from triocast.client.errors import ListenerClosed
from triocast.client.frames import Frame, Received
from triocast.client.settings import ListenerSettings
from triocast.client.target import Target
from triocast.client.way import Way
from triocast.errors import NORMAL, TOO_BIG, TriocastError

log = logging.getLogger("triocast.client")

Outgoing = trio.MemorySendChannel[Step]


@dataclass(frozen=True, slots=True)
class Lost:
    """A connection that ended, or an attempt that failed: why, and the seconds until the next attempt.

    `lasted` is how many seconds there was a connection, None if the attempt failed.
    """

    why: str
    delay: float
    lasted: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a listener wants: groups, in one way, from `beginning` on; `course` knows how far it came."""

    groups: Sequence[str]
    way: Way
    course: Course
    beginning: Beginning

    def path(self, target: Target, *, again: bool) -> str:
        """Return the path to connect to; `again` to go on where it was."""
        beginning = since_parameters(self.course.since or ()) if again else self.beginning
        way = self.way
        return target.listen_path(way.endpoint, self.groups, way.format, [*way.options, *beginning])


class Keeper:
    """Keeps a listener connected, and knows why it no longer is."""

    def __init__(
        self,
        target: Target,
        wanted: Wanted,
        settings: ListenerSettings,
        *,
        reconnect: bool,
        on_lost: Callable[[Lost], object] | None,
    ) -> None:
        self.failure: TriocastError | None = None
        self._target = target
        self._wanted = wanted
        self._again = False  # whether there was a connection
        self._settings = settings
        self._reconnect = reconnect
        self._on_lost = on_lost
        self._backoff = Backoff(settings.backoff, settings.random)
        self._connection: Connection | None = None
        self._opened_at: float | None = None

    def __str__(self) -> str:
        state = "ended" if self.failure else "connected" if self._connection else "not connected"
        return f"to {', '.join(self._wanted.groups)} at {self._target}, {state}"

    async def run(
        self,
        outgoing: Outgoing,
        task_status: trio.TaskStatus[TriocastError | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Connect again and again; starts with None once connected, or with why the first attempt failed."""

        def opened() -> None:
            if not started.is_set():
                started.set()
                task_status.started(None)

        started = trio.Event()
        async with outgoing:
            while True:
                failure = await self._connect(outgoing, opened)
                if not started.is_set():
                    task_status.started(failure)
                    return
                if failure is None or not self._worth_another(failure):
                    self.failure = failure
                    return
                await self._wait(failure)

    async def say_goodbye(self) -> None:
        """Close the connection, if there is one, in the way the protocol wants."""
        if self._connection is not None:
            await self._connection.aclose()

    async def _connect(self, outgoing: Outgoing, opened: Callable[[], object]) -> TriocastError | None:
        """Run one connection and return why it ended: None for a normal end."""
        max_message = self._settings.max_message
        course = self._wanted.course
        path = self._wanted.path(self._target, again=self._again)
        connection = self._wanted.way.connection(Attempt(self._target, path, self._settings))
        self._opened_at = None

        async def note_opened(header: str | None) -> None:
            self._opened_at = trio.current_time()
            self._connection = connection
            self._again = True
            missing = course.begin(header)
            opened()
            await hand_on(missing)

        async def deliver(frame: Frame) -> None:
            if isinstance(frame, Received) and len(frame.data) > max_message:
                raise ListenerClosed(TOO_BIG.code, f"a message of {len(frame.data)} (max_message: {max_message})")
            await hand_on(course.follow(frame))

        async def hand_on(steps: Iterator[Step]) -> None:
            for step in steps:
                await outgoing.send(step)

        try:
            ended = await connection.run(deliver, note_opened)
        except TriocastError as error:
            return error
        finally:
            self._connection = None
        return None if ended.code == NORMAL.code else ListenerClosed(ended.code, ended.reason)

    def _worth_another(self, failure: TriocastError) -> bool:
        if isinstance(failure, ListenerClosed):
            return self._reconnect and may_come_back(failure.close_code)
        return self._reconnect and failure.temporary

    async def _wait(self, failure: TriocastError) -> None:
        lasted = None if self._opened_at is None else trio.current_time() - self._opened_at
        lost = Lost(str(failure), self._backoff.after(lasted or 0.0), lasted)
        log.info("connection lost", extra={"why": lost.why, "back_in": round(lost.delay, 3)})
        if self._on_lost is not None:
            self._on_lost(lost)
        await trio.sleep(lost.delay)
