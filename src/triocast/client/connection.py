"""One WebSocket connection to a server, from dialling to its close, over trio-websocket.

Decides nothing about coming back: it reports how the connection ended.
"""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

import h11
import trio
import trio_websocket
import wsproto.utilities

from triocast.client.backoff import BackoffSettings
from triocast.client.errors import CannotConnect, HandshakeRefused
from triocast.client.reasons import cannot_reach
from triocast.client.stream import WatchedStream, dial
from triocast.client.target import Target
from triocast.errors import TriocastError

Dial = Callable[[Target, "ssl.SSLContext | None"], Awaitable[trio.abc.Stream]]
Deliver = Callable[[str | bytes], Awaitable[object]]
Opened = Callable[["str | None"], Awaitable[object]]

POSITION = b"triocast-position"  # says where the stream of each group begins
ABNORMAL = 1006  # RFC 6455, 7.4.1: the connection ended without a close frame
RECEIVE_BYTES = 64 * 1024  # a message of the largest size is then a few reads, not hundreds


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What can be set about a listener; times in seconds, sizes in bytes.

    `max_message` also bounds memory: at most `max_waiting` + 2 messages are held, then TCP holds the server
    back; of a message in JSON, up to six times as much while it is read.
    """

    max_message: int = 1024 * 1024  # the server's own default; text is counted in characters
    max_waiting: int = 16  # rides out a pause of the consumer; 16 MiB of the largest messages
    connect_timeout: float = 10.0  # for dialling, TLS and the WebSocket handshake together
    close_timeout: float = 2.0  # for the closing handshake; then the socket is closed all the same
    ping_interval: float = 20.0  # below the minute or less after which proxies forget idle connections
    ping_timeout: float = 10.0
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ssl_context: ssl.SSLContext | None = None  # None: the system's certificates
    random: random.Random = field(default_factory=random.Random, repr=False)
    dial: Dial = dial


@dataclass(frozen=True, slots=True)
class Ended:
    """How an established connection ended: its close code (1006 if there was none) and the reason."""

    code: int
    reason: str


class Connection:
    """A connection attempt and what becomes of it; `run` once, `aclose` from another task."""

    def __init__(self, target: Target, path: str, settings: ListenerSettings, max_frame: int) -> None:
        self._target = target
        self._path = path
        self._settings = settings
        self._max_frame = max_frame
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._goodbye: trio.Event | None = None
        self._silent = False

    async def run(self, deliver: Deliver, opened: Opened) -> Ended:
        """Connect, call `opened`, hand every message to `deliver` in order, and return how it ended.

        `opened` is told the answer's header `Triocast-Position`, None if there is none.

        Raises `CannotConnect` or `HandshakeRefused` if there never was a connection, and what `deliver` raises on
        purpose (`TriocastError`), having said goodbye. When this returns or raises, the socket is closed and no task
        is left; cancelled, it closes the socket without a closing handshake.
        """
        deadline = trio.current_time() + self._settings.connect_timeout
        stream = WatchedStream(await self._dial(deadline))
        try:
            return await self._run_on(stream, deliver, opened, deadline)
        finally:
            # With closing handshake or without: what could be said politely has been.
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        """Say goodbye, waiting at most `close_timeout` for the server to say it too; `run` then returns."""
        if self._websocket is not None and self._goodbye is None:
            self._goodbye = trio.Event()
            with trio.move_on_after(self._settings.close_timeout):
                await self._websocket.aclose()
            self._goodbye.set()

    async def _dial(self, deadline: float) -> trio.abc.Stream:
        try:
            with trio.fail_at(deadline):
                return await self._settings.dial(self._target, self._settings.ssl_context)
        except trio.TooSlowError as error:
            raise self._too_slow() from error
        except (OSError, trio.BrokenResourceError) as error:
            raise cannot_reach(self._target, error) from error

    async def _run_on(
        self,
        stream: WatchedStream,
        deliver: Deliver,
        opened: Opened,
        deadline: float,
    ) -> Ended:
        ended = Ended(ABNORMAL, "connection lost")
        refused: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                self._websocket = await self._shake_hands(nursery, stream, deadline)
                stream.handshake_done()
                await opened(_position(self._websocket.handshake_headers))
                nursery.start_soon(self._keep_alive, self._websocket, stream)
                ended = await self._pump(self._websocket, deliver)
                if self._goodbye is not None:
                    # The reader, which our nursery holds, has yet to hear the server's part of it.
                    await self._goodbye.wait()
                nursery.cancel_scope.cancel()
        # trio-websocket's reader raises into our nursery: a refusal, or what its parsers say of bytes that
        # are no WebSocket; both only before the connection is open.
        except* (trio_websocket.HandshakeError, wsproto.utilities.ProtocolError, h11.ProtocolError) as group:
            refused += _leaves(group)
        except* TriocastError as group:
            refused += _leaves(group)
        if refused:
            raise self._translate(refused[0]) from refused[0]
        return ended

    async def _shake_hands(
        self, nursery: trio.Nursery, stream: WatchedStream, deadline: float
    ) -> trio_websocket.WebSocketConnection:
        with trio.CancelScope(deadline=deadline) as scope:
            # trio-websocket waits on for a handshake whose stream has ended.
            nursery.start_soon(_cancel_at_end, stream, scope)
            return await trio_websocket.wrap_client_stream(
                nursery,
                cast("trio.SocketStream", stream),
                self._target.host_header,
                self._path,
                extra_headers=[(name.encode(), value.encode()) for name, value in self._settings.headers.items()],
                message_queue_size=0,
                max_message_size=self._max_frame,
                receive_buffer_size=RECEIVE_BYTES,
            )
        if stream.ended.is_set():
            raise CannotConnect(f"cannot listen at {self._target}: what answers there does not speak WebSocket")
        raise self._too_slow()

    async def _pump(
        self,
        websocket: trio_websocket.WebSocketConnection,
        deliver: Deliver,
    ) -> Ended:
        while True:
            try:
                message = await websocket.get_message()
            except trio_websocket.ConnectionClosed as closed:
                return self._why(closed.reason)
            try:
                await deliver(message)
            except TriocastError:
                await self.aclose()
                raise

    def _why(self, reason: trio_websocket.CloseReason | None) -> Ended:
        if self._silent:
            return Ended(ABNORMAL, f"no sign of life in {self._settings.ping_timeout:g} s")
        if reason is None or reason.code == ABNORMAL:
            return Ended(ABNORMAL, "without a goodbye")
        return Ended(reason.code, reason.reason or "")

    async def _keep_alive(self, websocket: trio_websocket.WebSocketConnection, stream: WatchedStream) -> None:
        """Ping a silent server, and close the stream of one that stays silent; any byte is a sign of life."""
        settings = self._settings
        while True:
            await stream.wait_silent(settings.ping_interval)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ping, websocket, nursery.cancel_scope)
                await stream.wait_silent(settings.ping_interval + settings.ping_timeout)
                self._silent = True
                await trio.aclose_forcefully(stream)

    def _too_slow(self) -> CannotConnect:
        return CannotConnect(f"cannot reach {self._target}: no answer in {self._settings.connect_timeout:g} s")

    def _translate(self, error: BaseException) -> Exception:
        if isinstance(error, TriocastError):
            return error
        if isinstance(error, trio_websocket.ConnectionRejected):
            return HandshakeRefused(error.status_code, error_message(error.body or b"") or "no WebSocket there")
        return CannotConnect(f"cannot listen at {self._target}: what answers there does not speak WebSocket")


def error_message(body: bytes) -> str | None:
    """Return the message in a server's JSON error, or None if `body` is something else."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, TypeError, KeyError):
        return None
    return message if isinstance(message, str) else None


def _position(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("ascii", "replace") for name, value in headers if name.lower() == POSITION), None)


async def _cancel_at_end(stream: WatchedStream, scope: trio.CancelScope) -> None:
    await stream.ended.wait()
    scope.cancel()


async def _ping(websocket: trio_websocket.WebSocketConnection, answered: trio.CancelScope) -> None:
    try:
        await websocket.ping()
    except trio_websocket.ConnectionClosed:
        return  # whoever reads learns the reason and ends us all
    answered.cancel()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
