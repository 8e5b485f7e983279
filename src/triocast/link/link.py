"""The link: one connection of Hypercorn's, which ends alone, in bounded time and with bounded memory.

It never parses: the protocols do; and never writes: its writer does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, ClassVar, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from triocast.link.events import Ended, RequestBegun
from triocast.link.handle import LINK_KEY, Handle
from triocast.link.heartbeat import COMMENT_CHUNK, Beat, Heartbeat
from triocast.link.http1 import LinkH11
from triocast.link.http2 import LinkH2
from triocast.link.reading import LOOK_AGAIN, MAX_PIECE, MAX_READ, Backlog, has_left, has_more
from triocast.link.tasks import LinkTasks
from triocast.link.workers import warn_of_workers
from triocast.link.writing import TCPStream, Writer
from triocast.meters import Eviction
from triocast.settings import Settings
from triocast.settings.engine import is_memory

logger = logging.getLogger("triocast.link")


class Link(TCPServer):
    """A connection, with the arguments of Hypercorn's `TCPServer`; awaiting it serves it until it is over.

    `settings` gives its bounds (sizes in bytes, times in seconds), `live` holds every link of the class that is being
    served.
    """

    settings: ClassVar[Settings] = Settings()
    live: ClassVar[set[Link]] = set()

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: TCPStream,
    ) -> None:
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]  # Hypercorn names TLS only
        del self.send_lock, self.idle_task  # Hypercorn's own; here the writer and the watch do that
        self.protocol: LinkH11 | LinkH2  # type: ignore[assignment]  # no wrapper that may turn into HTTP/2
        self.writer = Writer(stream, self.settings.write_timeout)
        self.gone = trio.Event()
        self.peer = "an unknown peer"
        self._task_group: LinkTasks
        self._backlog = Backlog()
        self._reading = trio.CancelScope()
        self._first_head_by = trio.current_time() + self.settings.header_timeout
        self._idle = True
        self._watching = trio.CancelScope(deadline=self._first_head_by)
        self._heartbeat: Heartbeat | None = None  # of a WebSocket or an event stream
        self.answered = False  # whether its client was ever written anything
        self._silent = False  # reset because no ping was answered

    @classmethod
    def reset_all(cls) -> None:
        """Reset every live connection of this class, whatever waits on it and behind whatever shield."""
        for link in tuple(cls.live):
            link.reset()

    @property
    def terminating(self) -> bool:
        return self.context.terminated.is_set()

    @property
    def takes_frames(self) -> bool:
        return isinstance(self.protocol, LinkH11)

    @property
    def eviction(self) -> Eviction | None:
        if self._silent:
            return Eviction.PING_TIMEOUT
        return Eviction.WRITE_TIMEOUT if self.writer.stalled else None

    @property
    def wait_terminating(self) -> Callable[[], Awaitable[None]]:
        return self.context.terminated.wait  # not ours: whoever waits must not keep a connection for that

    def begin_data(self) -> None:
        """The handshake of a WebSocket is answered: frames may be written, and its peer is watched from now on."""
        self.writer.begin_data()
        self._watch_over(Heartbeat(self.settings.ping_interval, self.settings.ping_timeout, trio.current_time()))

    def begin_stream(self) -> None:
        """An answer without an end of its own comes: see `Handle`."""
        if isinstance(self.protocol, LinkH11):
            self._backlog.discard()
        self.writer.expect_acknowledgements(max(self.settings.write_timeout, self.settings.ping_timeout))

    def begin_chunks(self) -> bool:
        """Its head is out: see `Handle`."""
        if not isinstance(self.protocol, LinkH11) or not self.protocol.takes_chunks:
            return False
        self.writer.begin_data()
        self._watch_over(Heartbeat(self.settings.ping_interval, None, trio.current_time(), COMMENT_CHUNK))
        return True

    def _watch_over(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._watching.deadline = heartbeat.due

    def reset(self) -> None:
        """Reset the connection now; its handlers are told, and end when they end. Harmless twice."""
        self.writer.reset()
        self.gone.set()

    async def run(self) -> None:
        """Serve the connection until it and its handlers are over; raises nothing but cancellation.

        Cancelled, what is being written has `close_timeout` left.
        """
        self.live.add(self)
        if is_memory(self.settings.engine):
            warn_of_workers(self.config.workers)
        try:
            await self._serve()
        except* Exception as crash:
            logger.error("the connection of %s was ended by an error", self.peer, exc_info=crash)  # noqa: TRY400
        finally:
            self.writer.close()
            self.gone.set()
            self.live.discard(self)
            # The protocol knows us and we know it: without this, what is left of a connection would wait for a full
            # run of the garbage collector.
            self.__dict__.pop("protocol", None)
            self.__dict__.pop("_task_group", None)

    async def protocol_send(self, event: Event) -> None:
        """Do what a protocol asks for: write, close, or watch the clock."""
        if isinstance(event, RawData):
            if event.data:
                self.answered = True
                await self.writer.send_all(event.data)
        elif isinstance(event, Closed):
            await self._begin_to_close()
        elif isinstance(event, Ended):
            self.writer.close()
        elif isinstance(event, RequestBegun):
            self._expire_after(self.settings.header_timeout)
        elif isinstance(event, Updated) and event.idle:
            self._expire_after(self.settings.keep_alive)
        elif isinstance(event, Updated):
            self._idle = False
            self._watching.deadline = inf

    async def _serve(self) -> None:
        if not await self._shake_hands():
            return
        sock = self.writer.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
        except OSError:
            return  # gone before we looked
        self.peer = f"{client[0]}:{client[1]}" if client is not None else "a Unix socket"
        async with trio.open_nursery() as background:
            async with trio.open_nursery() as handlers:
                self._task_group = LinkTasks(handlers, background)
                self.protocol = self._make_protocol(client, server)
                await self.protocol.initiate()
                background.start_soon(self._watch)
                background.start_soon(self._read)
                await self._understand()
            background.cancel_scope.cancel()

    async def _shake_hands(self) -> bool:
        if not isinstance(self.stream, trio.SSLStream):
            return True
        with trio.move_on_at(self._first_head_by):
            try:
                await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
            return True
        return False

    def _make_protocol(self, client: Any, server: Any) -> LinkH11 | LinkH2:
        tls = isinstance(self.stream, trio.SSLStream)
        # HTTP/2 only where TLS agreed on it: over plain text it would be the client's choice, not the operator's.
        h2 = tls and self.stream.selected_alpn_protocol() == "h2"
        protocol: Callable[..., LinkH11 | LinkH2] = LinkH2 if h2 else LinkH11
        state = ConnectionState({**self.state, LINK_KEY: Handle(self)})
        tasks = self._task_group
        return protocol(
            self.settings, self.app, self.config, self.context, tasks, state, tls, client, server, self.protocol_send
        )

    async def _read(self) -> None:
        """Read until the client's end, whatever the handlers do. While we are closing, until the deadline of that."""
        try:
            with self._reading:
                await self._read_on()
        except trio.Cancelled:
            self.writer.last_call(self.settings.close_timeout)
            raise
        # Not when the handler ends: what is open here is a socket that its client has given up.
        self.writer.close()
        self.gone.set()
        self._backlog.end()
        await self.protocol.client_left()

    async def _read_on(self) -> None:
        receive = self.stream.receive_some if isinstance(self.stream, trio.SSLStream) else self._receive_plain
        while True:
            try:
                data = await receive(MAX_READ)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            if self._heartbeat is not None:
                self._heartbeat.heard = trio.current_time()
            self._backlog.add(bytes(data))
            if not await self._has_room():
                return

    async def _receive_plain(self, size: int) -> bytes:
        # As the stream does it, but without asking the kernel first for what has hardly ever come already.
        sock = self.writer.socket
        while not self.writer.closed:
            await trio.lowlevel.wait_readable(sock)
            with suppress(BlockingIOError):
                return cast("bytes", sock._sock.recv(size))  # type: ignore[attr-defined]  # noqa: SLF001
        raise trio.ClosedResourceError

    async def _has_room(self) -> bool:
        """Wait until there is room for more; False when the client has left meanwhile."""
        while self._backlog.full:
            with trio.move_on_after(LOOK_AGAIN) as patience:
                await self._backlog.wait_room()
            if patience.cancelled_caught and (self.writer.closed or has_left(self.writer.socket.fileno())):
                return False
        return True

    async def _understand(self) -> None:
        while (data := await self._backlog.take()) is not None:
            for start in range(0, len(data), MAX_PIECE):
                if start:
                    await trio.lowlevel.checkpoint()
                await self.protocol.handle(RawData(data[start : start + MAX_PIECE]))
        await self.protocol.handle(Closed())

    async def _begin_to_close(self) -> None:
        """Say that we are done and read on: closing with bytes unread would send RST, which takes our last words from
        the client before it has read them."""
        await self.writer.finish()
        self._reading.deadline = trio.current_time() + self.settings.close_timeout
        await self.protocol.handle(Closed())

    def _expire_after(self, seconds: float) -> None:
        # Not async: a handler whose response is complete may be cancelled at its next checkpoint; this must be done.
        self._idle = True
        self._watching.deadline = trio.current_time() + seconds
        if self.terminating:
            self.writer.close()

    async def _watch(self) -> None:
        """Close the connection when it has been idle for its time, or is idle when the server stops; until then see to
        a heartbeat, where there is one. One task for both, so that watching costs a connection nothing."""
        while True:
            with self._watching as clock:
                await self.context.terminated.wait()
            if self._idle:
                self.writer.close()
            if self._idle or not clock.cancelled_caught:
                return
            await self._beat()

    async def _beat(self) -> None:
        heartbeat = self._heartbeat
        self._watching = trio.CancelScope()
        if heartbeat is None or not self.writer.takes_data:  # no client of ours, or one that is closing
            return
        unread = self._backlog.full or has_more(self.writer.socket.fileno())
        beat = heartbeat.judge(trio.current_time(), resting=unread or self.writer.pending)
        self._watching.deadline = heartbeat.due
        if beat is Beat.PING:
            await self.writer.send_all(heartbeat.sign)
        elif beat is Beat.LOST:
            logger.info("%s is gone without a word: it did not answer a ping", self.peer)
            self._silent = True
            self.reset()

    def __repr__(self) -> str:
        return f"<Link {self.peer} {self.writer!r} {self._backlog!r}>"
