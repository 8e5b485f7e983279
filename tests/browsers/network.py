"""The network between a browser and its server: a TCP proxy in the test's own event loop that can fail in many ways.

It knows no HTTP, but keeps what each connection asked for first.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from tests.e2e.processes import PATIENCE

RESET = struct.pack("ii", 1, 0)  # closing sends RST


class Network:
    """Carries bytes between a port of its own and the port `target`, until it is told to fail.

    `heads` are the requests that connections began with.
    """

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.heads: list[str] = []
        self._refusals = 0
        self._answer: bytes | None = None
        self._open: set[trio.SocketStream] = set()
        self._turned = trio.Event()
        self._flowing = trio.Event()
        self._flowing.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Carry connections while the block lasts."""
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._carry, [listener])
            yield
            nursery.cancel_scope.cancel()

    def freeze(self) -> None:
        """Carry nothing for the time being, and tell nobody: connections stay open, and can be made."""
        self._flowing = trio.Event()

    def kill(self) -> None:
        """Reset all connections, on both sides; new ones work."""
        for stream in self._open:
            if stream.socket.fileno() != -1:  # else its other side has just ended
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            stream.socket.close()
        self._open.clear()

    def fail(self, answer: bytes = b"") -> None:
        """Reset all connections, and each new one too; or give those an `answer`, as a load balancer does."""
        self._answer = answer
        self.kill()

    def heal(self) -> None:
        """Be a network again."""
        self._answer = None
        self._flowing.set()

    async def wait_refused(self) -> None:
        """Wait until somebody has tried to connect in vain from now on."""
        before = self._refusals
        with trio.fail_after(PATIENCE):
            while self._refusals == before:
                await self._turned.wait()

    async def _carry(self, client: trio.SocketStream) -> None:
        """Carry one connection until it ends; whatever ends one side ends the other."""
        if self._answer is not None:
            await self._refuse(client, self._answer)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await self._refuse(client, b"")
            return
        self._open |= {client, server}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, client, server, self.heads)
                nursery.start_soon(self._pump, server, client, [])
        finally:
            self._open -= {client, server}
            for stream in (client, server):
                stream.socket.close()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, heads: list[str]) -> None:
        first = True
        try:
            async for data in source:
                if first:
                    heads.append(bytes(data).partition(b"\r\n\r\n")[0].decode("latin1"))
                    first = False
                await self._flowing.wait()
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            for stream in (source, sink):
                stream.socket.close()

    async def _refuse(self, client: trio.SocketStream, answer: bytes) -> None:
        async with client:
            with suppress(trio.BrokenResourceError):
                if not answer:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                elif await client.receive_some():  # a browser opens connections that it may have no use for
                    await client.send_all(answer)
        self._refusals += 1
        self._turned.set()
        self._turned = trio.Event()
