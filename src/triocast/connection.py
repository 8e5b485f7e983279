"""One client's connection: a nursery with a reader that always drains and a writer that brings cursors forward.

It knows neither HTTP nor WebSocket; a transport does.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from triocast.bell import Bell
from triocast.core.message import Gap
from triocast.core.wire import Format, Joined, Told
from triocast.errors import CRASHED, MISSED, NORMAL, POLICY, RESTART, Close, ConnectionEnded, TooManyGroups
from triocast.group import WRITE_BUDGET
from triocast.hub import Hub
from triocast.inbound import Inbound
from triocast.meters import Eviction
from triocast.subscription import Outlet, Subscription

logger = logging.getLogger("triocast.connection")


class Disconnected(Exception):
    """The client is gone: it closed with `code` and `reason`, or vanished (1006), or was reset as `eviction` says."""

    def __init__(self, code: int = 1006, reason: str = "", eviction: Eviction | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.eviction = eviction


class Transport(Protocol):
    """A way out to one client. Each passes the suite in `tests/transports`."""

    name: str
    format: Format
    outlet: Outlet | None

    async def open(self) -> None:
        """Accept the client; called once, before anything else."""

    async def wait_writable(self) -> None:
        """Write what is left of a frame that was begun, and wait until the client can take more. Raises as `send`."""

    async def send(self, told: Sequence[Told]) -> None:
        """Write messages and gaps, in order. Raises `trio.BrokenResourceError` when the client is gone; cancelled,
        the transport is of no more use."""

    async def send_data(self, data: str | bytes) -> None:
        """Write a message for this client alone; otherwise as `send`."""

    async def receive(self) -> str | bytes:
        """Wait for what the client sends. Raises `Disconnected` once it is gone; cancelled, nothing is lost."""

    async def close(self, close: Close) -> None:
        """Tell the client that it is over, and why."""

    def abort(self) -> None:
        """Cut the client off, whatever is being written."""


class Connection:
    """A client, as handlers and groups know it. Made by `open_connection` (`push.connect()`).

    `async for message in connection` gives what the client sends, `str` or `bytes`, until it is gone.
    """

    def __init__(self, hub: Hub, transport: Transport, *, strict: bool = False) -> None:
        self.id = secrets.token_urlsafe(12)
        self.opened = False
        self._hub = hub
        self._transport = transport
        self.format = transport.format
        self.outlet = transport.outlet
        self.strict = strict
        settings = hub.settings
        self._inbound = Inbound(settings.max_inbound, settings.max_inbound_bytes)
        self._subscriptions: dict[str, Subscription | None] = {}  # None while joining
        self._ready: OrderedDict[Subscription, None] = OrderedDict()  # in the order they were woken
        self._greetings: dict[Subscription, Joined] = {}  # still to be told, before anything else of the group
        self._work = Bell()  # where the writer rests
        self._writing = False
        self._nursery: trio.Nursery | None = None  # while tasks can be started
        self._stopped = False
        self._turn = trio.Lock()
        self._close: Close | None = None
        self._gone: Disconnected | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} by {self._transport.name}, {len(self._subscriptions)} groups, {self._state}>"

    @property
    def _state(self) -> str:
        if self._gone is not None:
            return f"gone {self._gone.code}"
        return "open" if self._close is None else f"closing {self._close.code}"

    @property
    def groups(self) -> list[str]:
        """The names of the groups this client is in, in the order of joining."""
        return [name for name, subscription in self._subscriptions.items() if subscription is not None]

    @property
    def ended(self) -> bool:
        """Whether the client is gone or being closed; nothing more will reach it."""
        return self._close is not None or self._gone is not None

    # What a handler does

    async def receive(self) -> str | bytes:
        """Return the next message of this client; text as `str`, binary as `bytes`, in the order sent.

        Raises `ConnectionEnded` when there will be none.
        """
        try:
            return await self._inbound.get()
        except trio.EndOfChannel:
            raise ConnectionEnded(f"the client of connection {self.id} is gone") from None

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self._inbound.get()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def send(self, data: str | bytes) -> None:
        """Send to this client alone, in its turn between the messages of groups; waits while the client is slow.

        Raises `ConnectionEnded`. Cancelled in the middle of it, the connection ends: half a message can't be taken
        back.
        """
        if self.ended:
            raise ConnectionEnded(f"connection {self.id} is over")
        async with self._turn:
            try:
                await self._transport.send_data(data)
            except trio.BrokenResourceError as error:
                self._leave_groups()
                raise ConnectionEnded(f"the client of connection {self.id} is gone") from error
            except trio.Cancelled:
                self.end(CRASHED)
                raise

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with a WebSocket close code and a reason of at most 123 bytes; ends the block, too."""
        self.end(Close(code, "").because(reason))
        await trio.lowlevel.checkpoint()  # in the connection's own block, the end of it

    async def join(self, name: str) -> None:
        """Become a member of a group; harmless if it is one.

        Raises `InvalidGroupName`, `TooManyGroups`, `ConnectionEnded`, `EngineError`. Cancelled, it has not joined.
        """
        if name in self._subscriptions:
            await trio.lowlevel.checkpoint()
            return
        if len(self._subscriptions) >= self._hub.settings.max_groups_per_connection:
            limit = self._hub.settings.max_groups_per_connection
            raise TooManyGroups(f"one connection may be in {limit} groups (max_groups_per_connection)")
        self._check_open()
        self._subscriptions[name] = None
        try:
            subscription = await self._hub.join(name, self)
        except BaseException:
            self._subscriptions.pop(name, None)
            raise
        # Meanwhile the client may have gone, or the group been left again.
        if self.ended or name not in self._subscriptions:
            self._subscriptions.pop(name, None)
            self._leave(subscription)
            self._check_open()
        else:
            self._subscriptions[name] = subscription
            if self.format.greets:
                self._greetings[subscription] = self._greeting(subscription)

    async def leave(self, name: str) -> None:
        """Leave a group; nothing more of it is sent once this returns. Harmless if it is no member."""
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            self._leave(subscription)
        await trio.lowlevel.checkpoint()

    # What groups and the hub do

    def wake(self, subscription: Subscription) -> None:
        """Take note that there is something to take; the writer does the rest."""
        self._ready[subscription] = None
        if self._work.awaited:
            self._work.ring()
        elif self._nursery is not None and not self._writing:
            self._start_writing(self._nursery)

    def end(self, close: Close) -> None:
        """End the connection, telling its client why; later calls change nothing."""
        if self.ended:
            return
        self._close = close
        self._leave_groups()
        self._inbound.end()
        self._hub.expect_end(self)
        self._stop()

    def abort(self) -> None:
        """Cut the connection off at once."""
        self._transport.abort()
        self._stop()

    # The beginning, the two tasks, and the end; `open_connection` runs them

    def run_in(self, nursery: trio.Nursery) -> None:
        """Start the reader now, and the writer once there is something for it to write."""
        self._nursery = nursery
        nursery.start_soon(self.read)
        if self._ready:
            self._start_writing(nursery)
        if self._stopped:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def leave_block(self) -> None:
        """The handler is done: start nothing more, and leave every group, though a write may still be under way."""
        self._nursery = None
        self._leave_groups()
        self._hub.expect_end(self)

    def _start_writing(self, nursery: trio.Nursery) -> None:
        self._writing = True
        nursery.start_soon(self.write)

    async def open(self, groups: Iterable[str]) -> None:
        """Join first, then accept: what is published from the moment that the client is told "open" reaches it."""
        for name in groups:
            await self.join(name)
        self.opened = True
        await self._transport.open()

    async def read(self) -> None:
        """Drain what the client sends until it is gone, whatever the handler does."""
        try:
            while True:
                data = await self._transport.receive()
                if not self._inbound.put_nowait(data):
                    await self._put_patiently(data)
        except Disconnected as gone:
            await self._client_gone(gone)

    async def _put_patiently(self, data: str | bytes) -> None:
        with trio.move_on_after(self._hub.settings.inbound_timeout) as patience:
            await self._inbound.put(data)
        if patience.cancelled_caught:
            self._hub.meters.evict(Eviction.INBOUND_TIMEOUT)
            self.end(POLICY.because("you send faster than the application takes"))

    async def _client_gone(self, gone: Disconnected) -> None:
        self._gone = gone.with_traceback(None)  # or it would keep us, and we it
        if gone.eviction is not None:
            self._hub.meters.evict(gone.eviction)
        self._leave_groups()
        self._inbound.end()
        self._hub.expect_end(self)
        if self._inbound.used:  # let the handler take what is left and come to its own end
            await trio.sleep(self._hub.settings.close_timeout)
        self._stop()

    async def write(self) -> None:
        """Bring the cursors of groups that have something forward, one group after the other.

        It begins with the first that has: most clients keep up, and the broadcaster writes to them.
        """
        while True:
            while not self._ready:
                await self._work.wait()
            subscription, _ = self._ready.popitem(last=False)
            try:
                await self._write_some(subscription)
            except trio.BrokenResourceError:
                # The reader learns the same from the transport, with the code; nothing can be sent any more.
                self._leave_groups()
                return
            if not subscription.settle():
                self._ready[subscription] = None

    async def _write_some(self, subscription: Subscription) -> None:
        async with self._turn:  # also a checkpoint: a transport that never waits can't keep the event loop
            await self._transport.wait_writable()
            # Taken only now: who waits for a stalled client holds nothing, and what is taken is the newest there is.
            greeting = self._greetings.pop(subscription, None)
            entries: list[Told] = [*([greeting] if greeting else ()), *subscription.take(WRITE_BUDGET)]
            missed = next((entry for entry in entries if isinstance(entry, Gap)), None) if self.strict else None
            if missed is not None:
                entries = entries[: entries.index(missed)]
            if entries:
                await self._transport.send(entries)
            if missed is not None:
                self._end_missing(subscription, missed)

    def _end_missing(self, subscription: Subscription, missed: Gap) -> None:
        subscription.group.evicted += 1
        self._hub.meters.evict(Eviction.MISSED)
        reason = f"missed {missed.first} to {missed.last} ({missed.reason.value}), come back: {missed.group}"
        self.end(MISSED.because(reason))

    def _greeting(self, subscription: Subscription) -> Joined:
        group = subscription.group
        return Joined(group.name, group.log.epoch, subscription.cursor, group.policy.value, self.id)

    def _leave_groups(self) -> None:
        while self._subscriptions:
            _, subscription = self._subscriptions.popitem()
            if subscription is not None:
                self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        self._ready.pop(subscription, None)  # a stalled client that comes and goes must not fill it
        self._greetings.pop(subscription, None)
        self._hub.leave(subscription)

    def _check_open(self) -> None:
        if self.ended:
            raise ConnectionEnded(f"connection {self.id} is over")

    async def finish(self, close: Close) -> None:
        """Leave every group and say goodbye within `close_timeout`, with `close` unless another reason came first."""
        self.end(close)
        self._leave_groups()
        if self.opened and self._gone is None and self._close is not None:
            with trio.move_on_after(self._hub.settings.close_timeout, shield=True):
                await self._transport.close(self._close)


@asynccontextmanager
async def open_connection(
    hub: Hub, transport: Transport, groups: Iterable[str] = (), *, strict: bool = False
) -> AsyncIterator[Connection]:
    """Admit a client to the hub, make it a member of `groups`, accept it, and run its connection around the block.

    The block is cancelled when the client is gone or closed (one that reads messages first gets `close_timeout` to
    come to its own end). Leaving it, for whatever cause, leaves every group and closes the client: with 1000, or with
    1011 if the block raised, which goes on to the caller. A `strict` client is closed with 4010 instead of missing
    anything. Raises what `Hub.admit` and `Connection.join` raise; then
    the client was not accepted.
    """
    connection = Connection(hub, transport, strict=strict)
    hub.admit(connection)
    end = RESTART  # cancelled from outside, unless something below knows better
    crash: Exception | None = None
    try:
        await connection.open(groups)
        async with trio.open_nursery() as nursery:
            connection.run_in(nursery)
            try:
                yield connection
                end = NORMAL
            except Exception as error:  # noqa: BLE001 - raised again below, once the client is closed
                crash = None if isinstance(error, ConnectionEnded) and connection.ended else error
            finally:
                connection.leave_block()
            nursery.cancel_scope.cancel()
    except Exception as error:  # noqa: BLE001 - likewise
        crash = error
    finally:
        try:
            await connection.finish(end if crash is None else CRASHED)
        finally:
            hub.dismiss(connection)
    if crash is not None:
        raise crash
