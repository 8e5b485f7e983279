"""The served application on a loopback port in the test's own event loop, where all of it can be looked at."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import trio

from triocast.extension import Triocast
from triocast.hub import Hub
from triocast.link.host import Host, open_host
from triocast.settings import Settings
from triocast.web.app import create_app

PATIENCE = 30.0  # seconds until a test gives up; a bound, not a measure


@dataclass
class Served:
    """A served application: its port, its connections, its hub; `trust` is what clients need to speak TLS with it."""

    port: int
    host: Host
    push: Triocast
    trust: ssl.SSLContext | None = None

    @property
    def hub(self) -> Hub:
        return self.push.hub

    async def connect(self) -> trio.abc.Stream:
        """Open a TCP connection; with TLS in it if the server speaks that."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.trust is None:
            return stream
        return trio.SSLStream(stream, self.trust, server_hostname="localhost", https_compatible=True)

    async def request(self, raw: bytes) -> bytes:
        """Send bytes on a connection of their own and return all that is answered until the server ends it."""
        stream = await self.connect()
        async with stream:
            await stream.send_all(raw)
            return await read_all(stream)

    async def publish(self, group: str, body: bytes, headers: str = "") -> dict[str, object]:
        """Publish over HTTP and return the receipt."""
        head = f"POST /publish/{group} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}"
        answer = await self.request(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        receipt: dict[str, object] = msgspec.json.decode(answer.split(b"\r\n\r\n", 1)[1])
        return receipt

    async def wait_connections(self, count: int) -> None:
        """Wait until exactly `count` TCP connections are open; the only thing here that looks again and again."""
        with trio.move_on_after(PATIENCE):
            while len(self.host) != count:
                await trio.sleep(0.005)
            return
        raise AssertionError(f"{len(self.host)} connections are open, not {count}: {self.host._links.live}")


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the other side ends the connection, in whatever way."""
    data = bytearray()
    with trio.fail_after(PATIENCE):
        try:
            while chunk := await stream.receive_some(65536):
                data += chunk
        except trio.BrokenResourceError:
            pass
    return bytes(data)


@asynccontextmanager
async def served(
    settings: Settings | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[Served]:
    """Serve the application of `triocast serve` while the block lasts.

    With `tls` its clients need `trust`. A small `send_buffer` (bytes) has clients that do not read noticed early.
    """
    settings = settings if settings is not None else Settings()
    app = create_app(settings)
    async with open_host(app, settings) as host, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        if send_buffer is not None:
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        port = listener.socket.getsockname()[1]
        bound = listener if tls is None else trio.SSLListener(listener, tls, https_compatible=True)
        nursery.start_soon(trio.serve_listeners, host.serve, [bound])
        yield Served(port, host, app.extensions["triocast"], trust)
        host.reset_all()
        nursery.cancel_scope.cancel()
