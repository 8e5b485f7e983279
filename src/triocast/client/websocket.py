"""One WebSocket connection to a server, from dialling to its close, over trio-websocket.

Decides nothing about coming back: it reports how the connection ended.
"""

from __future__ import annotations

from typing import cast

import h11
import trio
import trio_websocket
import wsproto.utilities

from triocast.client.attempt import (
    ABNORMAL,
    RECEIVE_BYTES,
    Attempt,
    Deliver,
    Ended,
    Opened,
    error_message,
    position_header,
)
from triocast.client.errors import HandshakeRefused
from triocast.client.readers import Reader
from triocast.client.stream import WatchedStream
from triocast.errors import TriocastError


class WebSocketConnection:
    """One WebSocket, as `Connection` describes it."""

    def __init__(self, attempt: Attempt, reader: Reader) -> None:
        self._attempt = attempt
        self._settings = attempt.settings
        self._reader = reader
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._goodbye: trio.Event | None = None
        self._silent = False

    async def run(self, deliver: Deliver, opened: Opened) -> Ended:
        """Run it, with a closing handshake unless cancelled."""
        deadline = self._attempt.deadline()
        stream = WatchedStream(await self._attempt.reach(deadline))
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
                await opened(position_header(self._websocket.handshake_headers))
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
                self._attempt.target.host_header,
                self._attempt.path,
                extra_headers=[(name.encode(), value.encode()) for name, value in self._settings.headers.items()],
                message_queue_size=0,
                max_message_size=self._reader.max_frame(self._settings.max_message),
                receive_buffer_size=RECEIVE_BYTES,
            )
        if stream.ended.is_set():
            raise self._attempt.not_for_us("does not speak WebSocket")
        raise self._attempt.too_slow()

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
                await deliver(self._reader.read(message))
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

    def _translate(self, error: BaseException) -> Exception:
        if isinstance(error, TriocastError):
            return error
        if isinstance(error, trio_websocket.ConnectionRejected):
            return HandshakeRefused(error.status_code, error_message(error.body or b"") or "no WebSocket there")
        return self._attempt.not_for_us("does not speak WebSocket")


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
