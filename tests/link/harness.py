"""Serves an ASGI application by links on a loopback port, with a raw client to talk to it.

It never looks inside a link: tests see what a client, an application and an operator see.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
import trustme
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from triocast.link import Link, link_class
from triocast.settings import Settings

App = Callable[[Any, Any, Any], Awaitable[None]]

PATIENCE = 5
"""Seconds that a test waits for what must happen; a bound on a hang, never a delay."""

QUICK = Settings(write_timeout=0.3, close_timeout=0.3)
"""Settings under which what is to be given up on is given up on soon."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, announce: int | None = None) -> bytes:
    """Return a client's frame, masked with zeros; `announce` is a payload length to claim instead of the true one."""
    size = len(payload) if announce is None else announce
    head = bytes([fin << 7 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    return head + bytes(4) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class Client:
    """A client that sends bytes and reads what comes; it does nothing by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until(self, end: bytes) -> bytes:
        """Read until `end` has come; return all up to and with it."""
        while end not in self.received:
            await self._more()
        head, _, self.received = self.received.partition(end)
        return head + end

    async def exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            await self._more()
        data, self.received = self.received[:size], self.received[size:]
        return data

    async def rest(self) -> bytes:
        """Read to the end of the connection, be it FIN or RST; return what came."""
        try:
            while data := await self.stream.receive_some():
                self.received += data
        except trio.BrokenResourceError:
            pass
        data, self.received = self.received, b""
        return data

    async def eof(self) -> bytes:
        """Read to FIN; return what came. A reset raises."""
        while data := await self.stream.receive_some():
            self.received += data
        data, self.received = self.received, b""
        return data

    async def upgrade(self, extra: bytes = b"", behind: bytes = b"") -> bytes:
        """Shake hands for a WebSocket; `behind` is sent in the same packet. Returns the answer's head."""
        await self.send(UPGRADE + extra + b"\r\n" + behind)
        return await self.until(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame; return its opcode and payload."""
        first, short = await self.exactly(2)
        size = short
        if short == 126:
            (size,) = struct.unpack("!H", await self.exactly(2))
        elif short == 127:
            (size,) = struct.unpack("!Q", await self.exactly(8))
        return first & 0x0F, await self.exactly(size)

    async def close(self) -> tuple[int, str]:
        """Read up to the Close frame; return its code and reason."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2]), payload[2:].decode()

    async def request(self, target: str = "/", head: bytes = b"") -> bytes:
        await self.send(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
        return await self.until(b"\r\n\r\n")

    def reset(self) -> None:
        """End with RST."""
        sock = self.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    @property
    def socket(self) -> trio.socket.SocketType:
        stream = self.stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        assert isinstance(plain, trio.SocketStream)
        return plain.socket

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(self.received)
        self.received += data


class Served:
    """A server under test."""

    def __init__(self, app: App, settings: Settings, config: Config) -> None:
        self.link: type[Link] = link_class(settings)
        self.context = WorkerContext(None)
        self.config = config
        self.address: Any = None
        self.authority = trustme.CA()
        self._app = wrap_app(app, 1 << 20, "asgi")
        self._changed = trio.Event()
        self._scopes: set[trio.CancelScope] = set()
        self._sockets: list[trio.socket.SocketType] = []

    async def handle(self, stream: Any) -> None:
        try:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                await self.link(self._app, self.config, self.context, {"from": "lifespan"}, stream)
        finally:
            self._changed.set()
            self._changed = trio.Event()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        with trio.fail_after(PATIENCE):
            while self.link.live:
                await self._changed.wait()

    def stop(self) -> None:
        """Cancel the connections, as a server does whose grace time is over."""
        for scope in self._scopes:
            scope.cancel()

    def close_clients(self) -> None:
        for sock in self._sockets:
            sock.close()

    async def connect(self, *, buffer: int | None = None, alpn: str | None = None) -> Client:
        """Connect a client; `buffer` makes its receive buffer small, `alpn` makes it speak TLS and offer that."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        sock = trio.socket.socket(family)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._sockets.append(sock)
        await sock.connect(self.address)
        stream = trio.SocketStream(sock)
        if alpn is None:
            return Client(stream)
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols([alpn])
        tls = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        await tls.do_handshake()
        return Client(tls)

    async def websocket(self, **how: Any) -> Client:
        client = await self.connect(**how)
        assert b" 101 " in await client.upgrade()
        return client


@asynccontextmanager
async def serve(
    app: App,
    settings: Settings = QUICK,
    *,
    tls: bool = False,
    unix: Path | None = None,
    config: Config | None = None,
    buffer: int | None = None,
) -> AsyncIterator[Served]:
    """Serve `app` on a loopback port or at the path `unix`; afterwards every connection is reset and its tasks gone.

    `buffer` makes the send buffers of connections small, so that a client that does not read is noticed early.
    """
    config = Config() if config is None else config
    config.errorlog = None
    served = Served(app, settings, config)
    sock = trio.socket.socket(socket.AF_INET if unix is None else socket.AF_UNIX)
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    await sock.bind(("127.0.0.1", 0) if unix is None else str(unix))
    sock.listen(100)
    served.address = sock.getsockname()
    listener: Any = trio.SocketListener(sock)
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.authority.issue_cert("localhost").configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        listener = trio.SSLListener(listener, context, https_compatible=True)
    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, served.handle, [listener])
            try:
                yield served
            finally:
                served.close_clients()
                served.link.reset_all()
                nursery.cancel_scope.cancel()


def settings(**changes: Any) -> Settings:
    """Return QUICK with other values."""
    return replace(QUICK, **changes)


class Application:
    """An ASGI application that says what it is told, and what became of its handlers.

    It echoes WebSocket messages, and answers requests with their body.
    """

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.events: list[Any] = []
        self.ended = 0
        self._changed = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        try:
            if scope["type"] == "websocket":
                await self.websocket(scope, self._listening(receive), send)
            else:
                await self.http(scope, self._listening(receive), send)
        finally:
            self.ended += 1
            self._change()

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"], "bytes": event["bytes"]})

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event["body"], event["more_body"]
        await answer(send, 200, body)

    async def wait_event(self, kind: str) -> Any:
        """Wait until a handler has received an event of this type; return it."""
        with trio.fail_after(PATIENCE):
            while True:
                for event in self.events:
                    if event["type"] == kind:
                        return event
                await self._changed.wait()

    async def wait_ended(self, handlers: int = 1) -> None:
        """Wait until so many handlers have ended."""
        with trio.fail_after(PATIENCE):
            while self.ended < handlers:
                await self._changed.wait()

    def _listening(self, receive: Any) -> Any:
        async def listen() -> Any:
            event = await receive()
            self.events.append(event)
            self._change()
            return event

        return listen

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def answer(send: Any, status: int, body: bytes = b"") -> None:
    """Send a whole response."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
