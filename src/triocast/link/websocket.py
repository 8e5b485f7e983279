"""One WebSocket over HTTP/1.1: Hypercorn's stream, with bounds in bytes, honest close codes, and an end.

It never writes to the socket itself, and never queues what comes once a Close frame is out.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, Event, Request, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WebsocketBuffer, WSStream
from hypercorn.typing import WebsocketAcceptEvent
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from triocast.errors import CRASHED, MAX_REASON, RESTART, TOO_BIG
from triocast.link.deflate import INFLATE_PIECE, DeflateHandshake, agree
from triocast.link.frames import FrameMeter
from triocast.link.handle import LINK_KEY, Handle
from triocast.settings import Settings


class LinkWSStream(WSStream):
    """A WebSocket whose messages have at most `max_message` bytes; what is larger is refused before it has come."""

    def __init__(self, settings: Settings, *stock: Any) -> None:
        super().__init__(*stock)
        self._max_message = settings.max_message
        self._compression = settings.compression
        self._deflate: bytes | None = None  # the extension that is agreed upon
        # The meter refuses sooner and counts bytes; the buffer's own limit counts characters and is never met.
        self.buffer = WebsocketBuffer(self._max_message)
        self._meter = FrameMeter(self._max_message)
        self._answered = trio.Event()
        self._end: tuple[int, str] = (int(CloseReason.ABNORMAL_CLOSURE), "")
        self.farewell: FrameMeter | None = None
        """Set once our Close frame is out and the client's answer is still worth waiting for: it sees it pass."""

    async def handle(self, event: Event) -> None:
        """Take what the client sent; waits for the handler to accept, and to receive."""
        if isinstance(event, (Body, Data)):
            await self._receive(event.data)
        elif isinstance(event, StreamClosed):
            await self._tell_handler()
        else:
            if isinstance(event, Request) and self._compression:
                self._deflate = agree(event.headers)
                event.state[LINK_KEY].deflates = self._deflate is not None
            await super().handle(event)
            if self.closed:  # refused: Hypercorn has answered, and would wait for the client to go
                await self._leave()

    async def app_send(self, message: Any) -> None:
        """Do what the handler says; after the end nothing, but always with a checkpoint.

        Cancelled before anything is written, nothing is lost; a write that has begun is finished first.
        """
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self.closed or self.state is ASGIWebsocketState.CLOSED:
            await trio.lowlevel.checkpoint()
        elif message is None and self.state is ASGIWebsocketState.CONNECTED:
            end = RESTART if self.context.terminated.is_set() else CRASHED
            await self._close(end.code, end.reason)
        elif message is not None and self._is_close(message):
            reason = (message.get("reason") or "").encode()[:MAX_REASON].decode(errors="ignore")
            await self._close(int(message.get("code", CloseReason.NORMAL_CLOSURE)), reason)
        else:
            await super().app_send(message)
            if self.idle and not self.closed:  # rejected, and the whole answer is out
                await self._leave()

    def client_left(self) -> None:
        """The client is gone: nothing waits for the handler's answer any more."""
        self._answered.set()

    @property
    def _handle(self) -> Handle:
        handle: Handle = self.scope["state"][LINK_KEY]
        return handle

    def _is_close(self, message: Any) -> bool:
        return message["type"] == "websocket.close" and self.state is ASGIWebsocketState.CONNECTED

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        # Not Hypercorn's extension: to compress each message anew for each client costs 100 KB a connection.
        self.handshake.extensions = None
        if self._deflate is not None:
            self.handshake = DeflateHandshake(self.handshake, self._deflate, self._max_message)
        try:
            await super()._accept(message)
        except Exception:
            # Hypercorn says "connected" before it has looked at what the handler asks for.
            if not self.handshake.accepted:
                self.state = ASGIWebsocketState.HANDSHAKE
            raise
        self._handle.begin_data()
        self._answered.set()

    async def _receive(self, data: bytes) -> None:
        await self._answered.wait()  # frames may come right behind the upgrade request
        if self.closed or not self.handshake.accepted:
            return
        too_large = self._meter.feed(data)
        await self._take_bytes(data if too_large is None else data[:too_large])
        if too_large is not None and not self.closed:
            await self._refuse_size()

    async def _take_bytes(self, data: bytes) -> None:
        size = INFLATE_PIECE if self._meter.compressed else len(data)
        for start in range(0, len(data), size or 1):
            if start:  # a compressed piece may be a thousand times as large: others get a turn before the next
                await trio.lowlevel.checkpoint()
            if self.closed:
                return
            self.connection.receive_data(data[start : start + size])
            await self._handle_events()

    async def _refuse_size(self) -> None:
        await self._close(TOO_BIG.code, f"a message may have at most {self._max_message} bytes (max_message)")

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if self.closed:
                return
            if isinstance(event, Message):
                await self._take_frame(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._take_close(event)

    async def _take_frame(self, frame: Message[Any]) -> None:
        if self.connection.state is not ConnectionState.OPEN:
            return
        self.buffer.extend(frame)
        if frame.message_finished and self.app_put is not None:
            message = self.buffer.to_message()
            self.buffer.clear()
            await self.app_put(message)

    async def _take_close(self, event: CloseConnection) -> None:
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            self._end = (int(event.code), event.reason or "")
            self._handle.end_data()
            await self._send_wsproto_event(event.response())
            await self._leave()
        elif self.connection.state is ConnectionState.OPEN and event.code == TOO_BIG.code:  # once it was inflated
            await self._refuse_size()
        elif self.connection.state is ConnectionState.OPEN:  # not a Close frame: one that wsproto cannot read
            await self._close(int(event.code), event.reason or "", wait=False)
        else:
            await self._leave()

    async def _close(self, code: int, reason: str, *, wait: bool = True) -> None:
        """Send a Close frame of our own; `wait` says whether the client's answer can still be understood."""
        self.state = ASGIWebsocketState.CLOSED
        if self.connection.state is ConnectionState.OPEN:  # else the client's own Close is being answered
            self._end = (code, reason)
            self.farewell = self._meter if wait else None
        self._handle.end_data()
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self._leave()

    async def _leave(self) -> None:
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _tell_handler(self) -> None:
        self._answered.set()
        if self.closed:
            return
        self.closed = True
        if self.app_put is not None:
            code, reason = self._end
            await self.app_put({"type": "websocket.disconnect", "code": code, "reason": reason})
