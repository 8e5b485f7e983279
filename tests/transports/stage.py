"""An application served by links, its clients on real sockets, and the ways by which it can write to them.

It looks at what clients get; of the server it knows the connection objects that any handler has.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio
from quart import websocket
from quart_trio import QuartTrio

from tests.link.harness import frame
from tests.transports.strict import CLOSE, PING, PONG, Frame, Strict
from triocast import Settings, Triocast
from triocast.connection import Connection
from triocast.link import LINK_KEY
from triocast.link.host import Host, open_host

PATIENCE = 20.0  # seconds until a test gives up; a bound, not a measure
# Bytes of a socket buffer to ask for; the kernel gives twice that, or the least it has. Less on the receiving side and
# it drops small packets that it has no room to keep track of: what tests then wait for is TCP's retransmission.
TINY = 8 * 1024
NOBODY_READS = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""The TLS contexts of a server and of its clients."""


@dataclass(frozen=True)
class Way:
    """A way to write to clients, over a kind of connection."""

    name: str
    tls: bool
    deflate: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{'tls' if self.tls else 'tcp'}{'-deflate' if self.deflate else ''}"


DIRECT, DIRECT_TLS = Way("direct", tls=False), Way("direct", tls=True)
PORTABLE, PORTABLE_TLS = Way("portable", tls=False), Way("portable", tls=True)
DEFLATE, DEFLATE_TLS = Way("direct", tls=False, deflate=True), Way("direct", tls=True, deflate=True)
WAYS = (DIRECT, DIRECT_TLS, DEFLATE, PORTABLE, PORTABLE_TLS)

EXTENSION = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""What the server answers to whoever offers compression, if it is switched on."""


class Peer:
    """A client that checks every byte it is given, and its connection as the server's handlers know it."""

    def __init__(self, stream: trio.abc.Stream, *, deflate: bool = False) -> None:
        self.stream = stream
        self.connection: Connection
        self.pongs: list[bytes] = []
        self.strict = Strict(deflate=deflate)
        self.bite = 65_536  # bytes read at once
        self._frames: list[Frame] = []
        self._sending = trio.Lock()

    @property
    def socket(self) -> trio.socket.SocketType:
        stream = self.stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        assert isinstance(plain, trio.SocketStream)
        return plain.socket

    async def read(self) -> bool:
        """Read once; False at the end, be it FIN or RST."""
        try:
            data = await self.stream.receive_some(self.bite)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._frames += self.strict.feed(bytes(data))
        return bool(data)

    def read_before(self, data: bytes) -> None:
        """Take bytes that were read from the socket past `read`."""
        self._frames += self.strict.feed(data)

    async def frame(self) -> Frame:
        """Return the next frame of any kind."""
        with trio.fail_after(PATIENCE):
            while not self._frames:
                if not await self.read():
                    raise EOFError
        return self._frames.pop(0)

    async def data(self) -> Frame:
        """Return the next frame of data; pongs before it are kept."""
        while (got := await self.frame()).opcode == PONG:
            self.pongs.append(got.payload)
        return got

    async def message(self) -> bytes:
        """Return the payload of the next frame of data, which must not be a Close."""
        got = await self.data()
        assert got.opcode != CLOSE, got
        return got.payload

    async def messages(self, count: int) -> list[bytes]:
        return [await self.message() for _ in range(count)]

    async def to_the_end(self) -> list[Frame]:
        """Read until the server ends the connection; return all frames since the last that was asked for."""
        with trio.fail_after(PATIENCE):
            while await self.read():
                pass
        frames, self._frames = self._frames, []
        return frames

    async def send(self, opcode: int, payload: bytes = b"") -> None:
        """Send a frame."""
        await self.send_bytes(frame(opcode, payload))

    async def send_bytes(self, data: bytes) -> None:
        """Send what may be a frame, after what other tasks are sending."""
        async with self._sending:
            await self.stream.send_all(data)

    async def ping(self, payload: bytes) -> None:
        await self.send(PING, payload)

    def reset(self) -> None:
        """Leave with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOBODY_READS)
        self.socket.close()

    def leave(self) -> None:
        """Leave without a word; what is unread makes it RST, else it is FIN."""
        self.socket.close()


class Stage:
    """What is served, and to whom."""

    def __init__(self, push: Triocast, host: Host, port: int, way: Way, trust: ssl.SSLContext | None) -> None:
        self.push = push
        self.way = way
        self._host = host
        self._port = port
        self._trust = trust
        self._arrivals: dict[str, Callable[[Connection], None]] = {}
        self._peers: list[Peer] = []
        self._count = 0

    @property
    def links(self) -> Any:
        """The links that are served: to look at their sockets' numbers, which no client can see."""
        return self._host._links.live

    async def publish(self, group: str, *messages: object) -> None:
        for message in messages:
            await self.push.group(group).send(message)

    async def connect(self, *groups: str, buffer: int | None = None, deflate: bool | None = None) -> Peer:
        """Connect a client that is a member of groups; `buffer` is the size of its receive buffer to ask for, `deflate`
        whether it understands compressed frames, if that is not as the way has it.

        Where the server's send buffers are small, that of a client that keeps up should be, too: otherwise its kernel
        waits 40 ms before it acknowledges what is less than a packet.
        """
        sock = trio.socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await sock.connect(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: trio.abc.Stream = trio.SocketStream(sock)
        if self._trust is not None:
            stream = trio.SSLStream(stream, self._trust, server_hostname="localhost", https_compatible=True)
        peer = Peer(stream, deflate=self.way.deflate if deflate is None else deflate)
        self._peers.append(peer)
        with trio.fail_after(PATIENCE):
            await self._shake_hands(peer, groups, deflate=self.way.deflate if deflate is None else deflate)
        return peer

    async def wait_left(self, connections: int = 0) -> None:
        """Wait until all but `connections` are over, with their sockets."""
        with trio.move_on_after(PATIENCE):
            while len(self._host) != connections or self.push.hub.connections != connections:
                await trio.sleep(0.002)
        assert (len(self._host), self.push.hub.connections) == (connections, connections)

    def close(self) -> None:
        for peer in self._peers:
            peer.leave()

    async def handle(self) -> None:
        """A handler that echoes, for its client alone, and lets the test have its connection."""
        async with self.push.connect(*websocket.args.getlist("group")) as connection:
            self._arrivals.pop(websocket.args["id"])(connection)
            async for data in connection:
                await connection.send(data)

    async def _shake_hands(self, peer: Peer, groups: tuple[str, ...], *, deflate: bool) -> None:
        self._count += 1
        name, here = str(self._count), trio.Event()

        def arrive(connection: Connection) -> None:
            peer.connection = connection
            here.set()

        self._arrivals[name] = arrive
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        query = "&".join([f"id={name}", *(f"group={group}" for group in groups)])
        await peer.stream.send_all(
            f"GET /ws?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"{offer}\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows the head is the parser's
            head += bytes(await peer.stream.receive_some(1))
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert (EXTENSION in head) == deflate, head
        await here.wait()
        assert f"by {self.way.name}," in repr(peer.connection)


@asynccontextmanager
async def stage(
    way: Way, contexts: Contexts, settings: Settings | None = None, *, send_buffer: int | None = None
) -> AsyncIterator[Stage]:
    """Serve while the block lasts; `send_buffer` is the size of the connections' send buffers to ask for."""
    settings = replace(settings if settings is not None else Settings(), compression=way.deflate)
    app = QuartTrio(__name__)
    push = Triocast(app, settings, harden=False)
    served = app if way.name == "direct" else _without_link(app)
    async with open_host(served, settings) as host, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        if send_buffer is not None:
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        port = listener.socket.getsockname()[1]
        server, client = contexts if way.tls else (None, None)
        bound = listener if server is None else trio.SSLListener(listener, server, https_compatible=True)
        nursery.start_soon(trio.serve_listeners, host.serve, [bound])
        the_stage = Stage(push, host, port, way, client)
        app.websocket("/ws")(the_stage.handle)
        try:
            yield the_stage
        finally:
            the_stage.close()
            host.reset_all()
            nursery.cancel_scope.cancel()


def _without_link(app: Any) -> Callable[..., Awaitable[None]]:
    """Return the application as a server without our link would call it."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        state = {key: value for key, value in scope.get("state", {}).items() if key != LINK_KEY}
        await app({**scope, "state": state}, receive, send)

    return call
