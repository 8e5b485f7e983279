"""HTTP/2 over TLS on one connection: Hypercorn's protocol with both directions bounded by flow control.

It never touches the socket, and speaks neither WebSocket nor server push nor priorities.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import h2.events
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import (
    Body,
    Data,
    EndBody,
    EndData,
    Request,
    StreamClosed,
    Trailers,
)
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.utils import filter_pseudo_headers

from triocast.link.http import LinkHTTPStream
from triocast.link.outflow import HIGH_WATER, Outflow, StreamStalled
from triocast.link.refusal import sound_target
from triocast.link.tasks import LinkTasks, StreamTasks
from triocast.settings import Settings


class LinkH2(H2Protocol):
    """Many requests at once, each of which waits for its own client's window, and none for another's handler."""

    task_group: LinkTasks

    def __init__(self, settings: Settings, *stock: Any) -> None:
        super().__init__(*stock)
        self._settings = settings
        # As Hypercorn's, without ENABLE_CONNECT_PROTOCOL: a WebSocket has a connection of its own.
        self.connection.local_settings = H2Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: settings.max_header,
            },
        )
        self.connection.decoder.max_header_list_size = settings.max_header
        self._outflows: dict[int, Outflow] = {}
        self._uploading: set[int] = set()

    async def handle(self, event: Event) -> None:
        """Take bytes. Waits only for writing, never for a handler."""
        if isinstance(event, Closed):
            await self.client_left()
        elif isinstance(event, RawData) and not self.closed:
            try:
                events = self.connection.receive_data(event.data)
            except ProtocolError:
                await self._flush()
                await self.send(Closed())
            else:
                await self._handle_events(events)

    async def client_left(self) -> None:
        """The connection is over: every handler is told, whoever waits for a window goes on."""
        self.closed = True
        for stream_id in list(self._outflows):
            self._drop_outflow(stream_id)
        for stream_id in list(self.streams):
            await self._close_stream(stream_id)
        await self.has_data.set()

    # In

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if self.closed:
                return
            await self._take(event)
        await self._flush()

    async def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            await self._take_request(event)
        elif isinstance(event, h2.events.DataReceived):
            await self._take_data(event)
        elif isinstance(event, h2.events.StreamEnded):
            await self._take_end(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self._drop_outflow(event.stream_id)
            await self._close_stream(event.stream_id)
            await self._settle()
        elif isinstance(event, h2.events.WindowUpdated):
            await self._wake(event.stream_id)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            await self._wake(0)  # a larger initial window opens every stream's
        elif isinstance(event, h2.events.ConnectionTerminated):
            await self.send(Closed())

    async def _take_request(self, event: h2.events.RequestReceived) -> None:
        error = self._refusal(event)
        if error is None:
            await self._create_stream(event)
            await self.send(Updated(idle=False))
        else:
            self._reset(event.stream_id, error)

    def _refusal(self, event: h2.events.RequestReceived) -> ErrorCodes | None:
        headers = dict(event.headers or [])
        if headers.get(b":method") == b"CONNECT":
            return ErrorCodes.HTTP_1_1_REQUIRED
        names = (b":method", b":path", b":authority", b"host")
        if not sound_target(headers.get(b":path", b"")) or not all(headers.get(name, b"").isascii() for name in names):
            return ErrorCodes.PROTOCOL_ERROR
        # A client that resets its streams frees them for h2, but not their handlers.
        busy = self.task_group.running >= self.config.h2_max_concurrent_streams
        return ErrorCodes.REFUSED_STREAM if busy or self.context.terminated.is_set() else None

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        stream_id, headers = request.stream_id, list(request.headers or [])
        pseudo = dict(headers)

        async def taken(size: int) -> None:
            await self._acknowledge(stream_id, size)

        tasks = StreamTasks(self.task_group, taken)
        stream = LinkHTTPStream(
            self.app, self.config, self.context, tasks, self.ssl, self.client, self.server, self.stream_send, stream_id
        )
        self.streams[stream_id] = stream
        self._outflows[stream_id] = Outflow(self._settings.write_timeout, partial(self._is_shut, stream_id))
        self._uploading.add(stream_id)
        self.priority.insert_stream(stream_id)
        self.priority.block(stream_id)
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(headers),
                http_version="2",
                method=pseudo[b":method"].decode("ascii").upper(),
                raw_path=pseudo[b":path"],
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _take_data(self, event: h2.events.DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        data, size = bytes(event.data or b""), event.flow_controlled_length or 0
        if stream is None:  # late: its response is done
            self._give_window(event.stream_id, size)
            return
        self._give_window(event.stream_id, size - len(data))
        await stream.handle(Body(stream_id=event.stream_id, data=data))

    async def _take_end(self, stream_id: int) -> None:
        self._uploading.discard(stream_id)
        stream = self.streams.get(stream_id)
        if stream is not None:
            await stream.handle(EndBody(stream_id=stream_id))

    async def _acknowledge(self, stream_id: int, size: int) -> None:
        """A handler took `size` bytes, or never will: the client may send as many more."""
        if not self.closed:
            self._give_window(stream_id, size)
            await self._flush()

    def _give_window(self, stream_id: int, size: int) -> None:
        if size > 0:
            with suppress(ProtocolError):
                self.connection.acknowledge_received_data(size, stream_id)

    # Out

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what a handler says; waits while its window is shut, resets its stream if that takes too long."""
        try:
            await self._stream_send(event)
        except StreamStalled:
            self._reset(event.stream_id, ErrorCodes.CANCEL)
            await self._close_stream(event.stream_id)
            await self._settle()

    async def _stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, (Body, Data)):
            await self._push(event.stream_id, event.data)
        elif isinstance(event, (EndBody, EndData)):
            await self._finish(event.stream_id)
        elif isinstance(event, Trailers):
            await self._send_trailers(event)
        elif isinstance(event, StreamClosed):
            self._cut_off(event.stream_id)
            await self._close_stream(event.stream_id)
            await self._settle()
        elif not isinstance(event, Request):  # a push: browsers no longer take them
            await super().stream_send(event)

    async def _push(self, stream_id: int, data: bytes) -> None:
        view = memoryview(data)
        while view and (outflow := self._outflows.get(stream_id)) is not None:
            try:
                await outflow.wait_room()
            except trio.Cancelled:
                if len(view) < len(data):  # a part is sent: going on would leave a hole that nobody sees
                    self._reset(stream_id, ErrorCodes.CANCEL)
                raise
            outflow.add(view[:HIGH_WATER])
            view = view[HIGH_WATER:]
            await self._wake(stream_id)

    async def _finish(self, stream_id: int) -> None:
        outflow = self._outflows.get(stream_id)
        if outflow is not None:
            outflow.set_complete()
            await self._wake(stream_id)
            await outflow.drain()

    async def _send_trailers(self, event: Trailers) -> None:
        outflow = self._outflows.get(event.stream_id)
        if outflow is None:
            return
        await outflow.wait_empty()
        with suppress(ProtocolError):
            self.connection.send_headers(event.stream_id, event.headers, end_stream=True)
        self._drop_outflow(event.stream_id)
        await self._flush()

    async def _send_data(self, stream_id: int) -> None:
        """Called by Hypercorn's sending task for a stream that may have something to send."""
        try:
            self._send_some(stream_id, self._outflows[stream_id])
        except ProtocolError:  # the stream or the connection has ended meanwhile
            self._drop_outflow(stream_id)
        await self._flush()

    def _send_some(self, stream_id: int, outflow: Outflow) -> None:
        window = self.connection.local_flow_control_window(stream_id)
        data = outflow.take(max(0, min(window, self.connection.max_outbound_frame_size)))
        if data:
            self.connection.send_data(stream_id, data)
        else:
            self.priority.block(stream_id)
        if outflow.complete:
            self.connection.end_stream(stream_id)
            self._drop_outflow(stream_id)

    def _is_shut(self, stream_id: int) -> bool:
        """Whether the client lets us send nothing, be it on this stream or on the connection."""
        with suppress(ProtocolError):  # the stream has ended meanwhile
            return self.connection.local_flow_control_window(stream_id) <= 0
        return True

    async def _wake(self, stream_id: int) -> None:
        """Let the sending task look at a stream again; at all of them for 0."""
        for one in list(self._outflows) if stream_id == 0 else [stream_id]:
            if one in self._outflows:
                self.priority.unblock(one)
        await self.has_data.set()

    # Ends

    async def _settle(self) -> None:
        """A stream has ended. Ends the connection too, once it is idle and has served its number of requests or the
        server is stopping."""
        worn = self.keep_alive_requests >= self.config.keep_alive_max_requests
        if self.idle and not self.closed and (worn or self.context.terminated.is_set()):
            self.connection.close_connection()
            await self._flush()
            await self.send(Closed())
        else:
            await self._flush()
            await self.send(Updated(idle=self.idle))

    def _cut_off(self, stream_id: int) -> None:
        """End a response that is not whole, and an upload that nobody reads."""
        if stream_id in self._outflows:
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif stream_id in self._uploading:
            self._reset(stream_id, ErrorCodes.NO_ERROR)

    def _reset(self, stream_id: int, error: ErrorCodes) -> None:
        with suppress(ProtocolError):
            self.connection.reset_stream(stream_id, error)
        self._drop_outflow(stream_id)

    def _drop_outflow(self, stream_id: int) -> None:
        outflow = self._outflows.pop(stream_id, None)
        if outflow is not None:
            outflow.close()
            self.priority.remove_stream(stream_id)

    async def _close_stream(self, stream_id: int) -> None:
        self._uploading.discard(stream_id)
        await super()._close_stream(stream_id)
