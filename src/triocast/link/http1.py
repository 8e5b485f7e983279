"""HTTP/1.1 on one connection: Hypercorn's protocol without plaintext HTTP/2, and with an end that always comes.

It never touches the socket: it asks the link, by events.
"""

from __future__ import annotations

from typing import Any

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.typing import H11SendableEvent

from triocast.link.events import Ended, RequestBegun
from triocast.link.frames import FrameMeter
from triocast.link.handle import LINK_KEY, Handle
from triocast.link.http import LinkHTTPStream
from triocast.link.refusal import Headers, refusal, wants_websocket
from triocast.link.websocket import LinkWSStream
from triocast.settings import Settings

# With these a body is not what chunks made elsewhere would be part of.
NOT_PLAIN = {b"content-length", b"content-encoding", b"transfer-encoding"}


class LinkH11(H11Protocol):
    """One request after another, or a WebSocket; `over` once the last byte of ours is written."""

    def __init__(self, settings: Settings, *stock: Any) -> None:
        super().__init__(*stock)
        self._settings = settings
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=settings.max_header)
        self._turn = trio.Event()
        self._begun = True  # the link's first timer runs from the connection's first moment
        self._left = False
        self._over = False
        self._farewell: FrameMeter | None = None
        self._head = b""  # of an answer, waiting for its body
        self._chunked = False  # the answer under way, and by nobody else than h11

    async def handle(self, event: Event) -> None:
        """Take bytes, waiting for the handler to take what they mean; once all is over, discard them."""
        if isinstance(event, Closed):
            self._over = True
            self._turn.set()
            await self._close_stream()
        elif isinstance(event, RawData) and self._over:
            await self._discard(event.data)
        elif isinstance(event, RawData):
            self.connection.receive_data(event.data)
            await self._handle_events()
            await self._time_the_head()

    async def client_left(self) -> None:
        """The client is gone: nothing waits for an answer to it any more. What it sent before is still delivered, and
        then the disconnect."""
        self._left = True
        self._turn.set()
        if isinstance(self.stream, LinkWSStream):
            self.stream.client_left()

    @property
    def takes_chunks(self) -> bool:
        """Whether chunks of the answer that is under way may be written past us."""
        return self._chunked and not self._over and self.connection.our_state is h11.SEND_BODY

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what a handler says; after the end of an answer none of its chunks."""
        if isinstance(event, Response):
            self._chunked = self._is_chunked(event)
        elif isinstance(event, (EndBody, StreamClosed)):
            self._handle.end_data()
        await super().stream_send(event)

    def _is_chunked(self, answer: Response) -> bool:
        if not isinstance(self.stream, LinkHTTPStream):
            return False
        request = self.stream.scope
        plain = NOT_PLAIN.isdisjoint([name.lower() for name, _ in answer.headers])
        return plain and answer.status_code == 200 and (request["method"], request["http_version"]) == ("GET", "1.1")

    @property
    def _handle(self) -> Handle:
        handle: Handle = self.connection_state[LINK_KEY]
        return handle

    async def _handle_events(self) -> None:
        while not self._over:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_continue()
            if self.connection.their_state in {h11.MUST_CLOSE, h11.CLOSED}:
                # They said that this was their last request. What follows all the same (a stray line end, often) is
                # discarded: refusing it would answer for the request that was good.
                return
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._answer(error.error_status_hint)
                return
            if event is h11.PAUSED and not self._left:
                # Behind a request whose response is under way. The link reads a little further on, to see the end.
                self._turn = trio.Event()
                await self._turn.wait()
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return
            else:
                await self._take(event)

    async def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            await self._take_request(event)
        elif self.stream is None:
            return
        elif isinstance(event, h11.Data):
            await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            await self.stream.handle(EndBody(stream_id=STREAM_ID))
        elif isinstance(event, Data):
            await self.stream.handle(event)

    async def _take_request(self, request: h11.Request) -> None:
        self._begun = True
        await self.send(Updated(idle=False))
        # Once: h11 makes each pair anew whenever it is asked.
        headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        status = refusal(request, headers, self._settings.max_header)
        if status is None:
            await self._begin_stream(request, headers)
        else:
            await self._answer(status)

    async def _begin_stream(self, request: h11.Request, headers: Headers) -> None:
        stock = (self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server)
        if wants_websocket(request, headers):
            if isinstance(self.connection, h11.Connection):
                self.connection = H11WSConnection(self.connection)
            self.stream = LinkWSStream(self._settings, *stock, self.stream_send, STREAM_ID)
        else:
            self.stream = LinkHTTPStream(*stock, self.stream_send, STREAM_ID)
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=request.headers.raw_items() if self.config.h11_pass_raw_headers else list(headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _maybe_recycle(self) -> None:
        """The stream is done: go on with the next request, or end the connection."""
        stream = self.stream
        await self._close_stream()
        done = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        if done and not self._over and not self._left and not self.context.terminated.is_set():
            self.connection.start_next_cycle()
            self._begun = False
            await self.send(Updated(idle=True))
            self._turn.set()
        elif not self._over:
            self._farewell = stream.farewell if isinstance(stream, LinkWSStream) else None
            await self._end()

    async def _close_stream(self) -> None:
        # Before anything waits: several tasks may find out at once that a stream is done.
        stream, self.stream = self.stream, None
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=STREAM_ID))

    async def _end(self) -> None:
        self._over = True
        self._turn.set()
        self._handle.end_data()
        both = self._farewell is not None and self._farewell.close_seen
        await self.send(Closed())
        if both:
            await self.send(Ended())

    async def _discard(self, data: bytes) -> None:
        if self._farewell is None:
            return
        self._farewell.feed(data)
        if self._farewell.close_seen:
            self._farewell = None
            await self.send(Ended())

    async def _answer(self, status: int) -> None:
        """Refuse what cannot be understood, unless a response is under way, and end the connection."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)
        await self._end()

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Write an event; the head of an answer whose length is known waits for the body, for one write instead of two.

        Heads of streams do not wait: their clients want to know that they are connected.
        """
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response) and any(name == b"content-length" for name, _ in event.headers):
            self._head = data
            return
        head, self._head = self._head, b""
        await self.send(RawData(data=head + data))

    async def _send_continue(self) -> None:
        headers = self.config.response_headers("h11")
        await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=headers))

    async def _time_the_head(self) -> None:
        waiting = not self._begun and not self._over and self.stream is None
        if waiting and self.connection.their_state is h11.IDLE and self.connection.trailing_data[0]:
            self._begun = True
            await self.send(RequestBegun())
