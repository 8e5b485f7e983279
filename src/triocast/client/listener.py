"""Listening to groups: one stream of messages over as many connections as it takes.

The connections themselves, and how long to wait between them, are decided elsewhere; nothing here publishes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from triocast.client.backoff import Backoff, may_come_back
from triocast.client.connection import Connection, ListenerSettings
from triocast.client.errors import ListenerClosed
from triocast.client.frames import Item, JsonReader, RawReader, Reader, Received
from triocast.client.target import Target, parse_url
from triocast.core.names import check_group_name
from triocast.errors import NORMAL, TOO_BIG, TriocastError

log = logging.getLogger("triocast.client")

DEFAULTS = ListenerSettings()


@dataclass(frozen=True, slots=True)
class Lost:
    """A connection that ended, or an attempt that failed: why, and the seconds until the next attempt.

    `lasted` is how many seconds there was a connection, None if the attempt failed.
    """

    why: str
    delay: float
    lasted: float | None


class Listener:
    """The messages of some groups, in the order in which they came, and gaps in the place of those that are missing;
    iterate over it, in one task.

    Iteration ends when the server closes normally (1000); it raises `ListenerClosed` when it says not to come
    back, `HandshakeRefused` when it does so on reconnecting, or `UnexpectedFrame`. What was published while there was
    no connection is missed; a gap says how much, unless the server has begun its history anew meanwhile.
    """

    def __init__(self, incoming: trio.MemoryReceiveChannel[Item], keeper: _Keeper) -> None:
        self._incoming = incoming
        self._keeper = keeper

    def __repr__(self) -> str:
        return f"<Listener {self._keeper}>"

    def __aiter__(self) -> Listener:
        """Return itself."""
        return self

    async def __anext__(self) -> Item:
        """Wait for the next message or gap."""
        try:
            return await self._incoming.receive()
        except trio.EndOfChannel:
            if self._keeper.failure is not None:
                raise self._keeper.failure from None
            raise StopAsyncIteration from None


@asynccontextmanager
async def open_listener(
    url: str,
    groups: Sequence[str],
    *,
    format: Literal["json", "raw"] = "json",  # noqa: A002 - as the query parameter is called
    reconnect: bool = True,
    on_lost: Callable[[Lost], object] | None = None,
    settings: ListenerSettings = DEFAULTS,
) -> AsyncIterator[Listener]:
    """Listen to `groups` of the server at `url` (http://, https://, ws://, wss:// or unix:PATH).

    Entering connects: inside the block one is subscribed. It raises `InvalidURL`, `InvalidGroupName`,
    `CannotConnect` or `HandshakeRefused`; the first attempt is not repeated. A connection that is lost later is
    made anew after a jittered wait, of which `on_lost` is told, unless the server said not to come back or
    `reconnect` is False. Leaving the block ends every task and closes the socket, within `close_timeout`; if it is
    cancelled, at once and without a closing handshake.

    With `format="raw"` messages come as payloads and nothing else: without offsets, and nothing says what is missing.
    """
    if isinstance(groups, str) or not groups:
        raise ValueError("groups is a list of at least one group name")
    groups = tuple(check_group_name(group) for group in groups)
    outgoing, incoming = trio.open_memory_channel[Item](settings.max_waiting)
    reader = RawReader(groups) if format == "raw" else JsonReader()
    keeper = _Keeper(parse_url(url), groups, reader, settings, reconnect=reconnect, on_lost=on_lost)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        if (refusal := await nursery.start(keeper.run, outgoing)) is not None:
            failure = refusal
        else:
            try:
                yield Listener(incoming, keeper)
            except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
                if _is_cancelled(error):
                    raise
                failure = error  # raised below, as it is and not in a group of our nursery's
            await keeper.say_goodbye()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None


class _Keeper:
    """Keeps a listener connected, and knows why it no longer is."""

    def __init__(
        self,
        target: Target,
        groups: tuple[str, ...],
        reader: Reader,
        settings: ListenerSettings,
        *,
        reconnect: bool,
        on_lost: Callable[[Lost], object] | None,
    ) -> None:
        self.failure: TriocastError | None = None
        self._target = target
        self._groups = groups
        self._reader = reader
        self._settings = settings
        self._reconnect = reconnect
        self._on_lost = on_lost
        self._backoff = Backoff(settings.backoff, settings.random)
        self._connection: Connection | None = None
        self._opened_at: float | None = None

    def __str__(self) -> str:
        state = "ended" if self.failure else "connected" if self._connection else "not connected"
        return f"to {', '.join(self._groups)} at {self._target}, {state}"

    async def run(
        self,
        outgoing: trio.MemorySendChannel[Item],
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

    async def _connect(
        self, outgoing: trio.MemorySendChannel[Item], opened: Callable[[], object]
    ) -> TriocastError | None:
        """Run one connection and return why it ended: None for a normal end."""
        path = self._target.listen_path(self._groups, self._reader.format)
        max_message = self._settings.max_message
        connection = Connection(self._target, path, self._settings, self._reader.max_frame(max_message))
        self._opened_at = None

        def note_opened() -> None:
            self._opened_at = trio.current_time()
            self._connection = connection
            opened()

        async def deliver(data: str | bytes) -> None:
            item = self._reader.read(data)
            if isinstance(item, Received) and len(item.data) > max_message:
                raise ListenerClosed(TOO_BIG.code, f"a message of {len(item.data)} (max_message: {max_message})")
            if item is not None:
                await outgoing.send(item)

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
