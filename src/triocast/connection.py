"""One client's connection: a nursery with a reader that always drains, and a writer where there is something to write.

It knows neither HTTP nor WebSocket; a transport does.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any

import msgspec
import trio

from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.message import Position
from triocast.core.presence import Member, Reason
from triocast.core.recovery import Wish
from triocast.errors import CRASHED, NORMAL, POLICY, RESTART, Close, ConnectionEnded
from triocast.hub import Hub
from triocast.inbound import Inbound
from triocast.memberships import Memberships
from triocast.meters import Eviction
from triocast.outbound import Outbound
from triocast.subscription import Stream, Subscription
from triocast.transport import Disconnected, Transport
from triocast.watchers import Watch

NO_WISHES: Mapping[str, Wish | None] = MappingProxyType({})

logger = logging.getLogger("triocast.connection")


class Connection:
    """A client, as handlers and groups know it. Made by `open_connection` (`push.connect()`).

    `async for message in connection` gives what the client sends, `str` or `bytes`, until it is gone.
    """

    def __init__(
        self,
        hub: Hub,
        transport: Transport,
        *,
        strict: bool = False,
        presence: bool = False,
        listed: bool = True,
        identity: Identity = ANONYMOUS,
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.identity = identity
        self.member = Member(self.id, identity) if listed else None
        self.since = trio.current_time()
        self.opened = False
        self._hub = hub
        self._transport = transport
        self.format = transport.format
        self.outlet = transport.outlet
        settings = hub.settings
        self._inbound = Inbound(settings.max_inbound, settings.max_inbound_bytes)
        self._outbound = Outbound(transport, strict=strict)
        self._memberships = Memberships(hub, self._outbound, presence=presence)
        self._nursery: trio.Nursery | None = None  # while it can be cancelled
        self._stopped = False
        self._close: Close | None = None
        self._gone: Disconnected | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} by {self._transport.name}, {len(self._memberships)} groups, {self._state}>"

    @property
    def _state(self) -> str:
        if self._gone is not None:
            return f"gone {self._gone.code}"
        return "open" if self._close is None else f"closing {self._close.code}"

    @property
    def user(self) -> str | None:
        """Who this is to the application, as it said when the client connected; None for somebody anonymous."""
        return self.identity.user

    @property
    def info(self) -> dict[str, Any] | None:
        """What is shown of this client, decoded; `identity.claimed` says that the client itself has said it."""
        info = self.identity.info
        return None if info is None else msgspec.json.decode(info)

    @property
    def groups(self) -> list[str]:
        """The names of the groups this client is in, in the order of joining."""
        return [each.group.name for each in self._memberships]

    @property
    def behind(self) -> bool:
        """Whether its groups have something for it that it was not given yet."""
        return self._memberships.behind

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
        async with self._outbound.turn:
            try:
                await self._transport.send_data(data)
            except trio.BrokenResourceError as error:
                self.leave_groups()
                raise ConnectionEnded(f"the client of connection {self.id} is gone") from error
            except trio.Cancelled:
                self.end(CRASHED)
                raise

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with a WebSocket close code and a reason of at most 123 bytes; ends the block, too."""
        self.end(Close(code, "").because(reason))
        await trio.lowlevel.checkpoint()  # in the connection's own block, the end of it

    async def join(self, name: str, wish: Wish | None = None) -> None:
        """Become a member of a group; harmless if it is one.

        With a `wish`, what follows that position (or the last messages) comes before the live messages; without one,
        what the group's clients begin with by its settings. Raises `InvalidGroupName`, `TooManyGroups`, `PresenceOff`,
        `ConnectionEnded`, `EngineError`. Cancelled, it has not joined.
        """
        await self._memberships.join(self, name, wish)

    async def leave(self, name: str) -> None:
        """Leave a group; nothing more of it is sent once this returns, but that it was left, in formats that can say
        so. Harmless if it is no member."""
        self._memberships.leave(name)
        await trio.lowlevel.checkpoint()

    # What groups and the hub do

    def remove(self, name: str, close: Close) -> bool:
        """Take the client out of a group and tell it why; whether it was in it, or about to be.

        A client that can't be told is closed instead: one of bare payloads, and one that does not know yet that it was
        in the group.
        """
        removed = self._memberships.remove(name, close)
        if removed is None:
            self.end(close, Reason.REMOVED)
        return removed is not False

    def wake(self, stream: Stream) -> None:
        """Take note that there is something to take; the writer does the rest."""
        assert isinstance(stream, Subscription | Watch)  # noqa: S101 - for the type checker
        self._outbound.wake(stream)

    def end(self, close: Close, reason: Reason = Reason.LEFT) -> None:
        """End the connection, telling its client why, and others the `reason`; later calls change nothing."""
        if self.ended:
            return
        self._close = close
        self.leave_groups(reason)
        self._inbound.end()
        self._hub.roster.expect_end(self)
        self._stop()

    def leave_groups(self, reason: Reason = Reason.LEFT) -> None:
        """Leave every group: nothing more will reach the client."""
        self._memberships.leave_all(reason)

    def abort(self) -> None:
        """Cut the connection off at once."""
        self._transport.abort()
        self._stop()

    # The beginning, the two tasks, and the end; `open_connection` runs them

    def run_in(self, nursery: trio.Nursery) -> None:
        """Start the reader now, and the writer once there is something for it to write."""
        self._nursery = nursery
        nursery.start_soon(self.read)
        self._outbound.run_in(nursery, self)
        if self._stopped:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def leave_block(self) -> None:
        """The handler is done: start nothing more, and leave every group, though a write may still be under way."""
        self._nursery = None
        self._outbound.stop()
        self.leave_groups()
        self._hub.roster.expect_end(self)

    async def open(self, groups: Iterable[str], wishes: Mapping[str, Wish | None]) -> None:
        """Join first, then accept: what is published from the moment that the client is told "open" reaches it."""
        with suppress(ConnectionEnded):  # it lags too far in one group already: it is accepted, and told so
            for name in groups:
                await self.join(name, wishes.get(name))
        self.opened = True
        await self._transport.open(self._starts())

    def _starts(self) -> list[Position]:
        """Return where its groups begin; nothing for a client that would count from there, and would count wrong."""
        counts = self.format.greets or all(each.counted for each in self._memberships)
        return self._memberships.starts if counts else []

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
        self.leave_groups()
        self._inbound.end()
        self._hub.roster.expect_end(self)
        if self._inbound.used:  # let the handler take what is left and come to its own end
            await trio.sleep(self._hub.settings.close_timeout)
        self._stop()

    async def finish(self, close: Close) -> None:
        """Leave every group and say goodbye within `close_timeout`, with `close` unless another reason came first."""
        self.end(close)
        self.leave_groups()
        if self.opened and self._gone is None and self._close is not None:
            with trio.move_on_after(self._hub.settings.close_timeout, shield=True):
                await self._transport.close(self._close)


@asynccontextmanager
async def open_connection(  # noqa: PLR0913 - what most leave out
    hub: Hub,
    transport: Transport,
    groups: Iterable[str] = (),
    wishes: Mapping[str, Wish | None] = NO_WISHES,
    *,
    strict: bool = False,
    presence: bool = False,
    listed: bool = True,
    identity: Identity = ANONYMOUS,
) -> AsyncIterator[Connection]:
    """Admit a client to the hub, make it a member of `groups`, accept it, and run its connection around the block.

    Before the live messages of a group it is given what `wishes` say for that. A `strict` client is closed with 4010
    instead of missing anything; one that asks for `presence` is told who comes to its groups and
    who goes; one that is not `listed` is nobody's company: no member is told of it.

    The block is cancelled when the client is gone or closed (one that reads messages first gets `close_timeout` to
    come to its own end). Leaving it, for whatever cause, leaves every group and closes the client: with 1000, or with
    1011 if the block raised, which goes on to the caller. Raises what `Hub.admit` and `Connection.join` raise; then the
    client was not accepted.
    """
    connection = Connection(hub, transport, strict=strict, presence=presence, listed=listed, identity=identity)
    hub.admit(connection)
    end = RESTART  # cancelled from outside, unless something below knows better
    crash: Exception | None = None
    over: trio.Cancelled | None = None
    try:
        await connection.open(groups, wishes)
        async with trio.open_nursery() as nursery:
            connection.run_in(nursery)
            try:
                yield connection
                end = NORMAL
            except Exception as error:  # noqa: BLE001 - raised again below, once the client is closed
                crash = None if isinstance(error, ConnectionEnded) and connection.ended else error
            except trio.Cancelled as cancelled:
                over = cancelled
                raise
            finally:
                connection.leave_block()
            nursery.cancel_scope.cancel()
    except Exception as error:  # noqa: BLE001 - likewise
        crash = error
    finally:
        try:
            await connection.finish(end if crash is None else CRASHED)
        finally:
            hub.roster.dismiss(connection)
    if crash is not None:
        raise crash
    if over is not None:  # it went no further; the frames that it went through would keep it, and it them
        over.__traceback__ = None
