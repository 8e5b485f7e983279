"""What attackers do: the cases of the tables, and a connection whose owner sends what it likes.

It never looks at the server; the scene does.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from tests.served import PATIENCE

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Case:
    """Bytes to send, in as many packets as there are items, and the answer that they must get (a pattern).

    An empty answer pattern asks for nothing. Unless the connection `stays`, which is said of sound WebSockets only, it
    is the server that has to end it, within its time limits.
    """

    data: bytes | tuple[bytes, ...]
    answer: bytes
    stays: bool = False

    @property
    def packets(self) -> tuple[bytes, ...]:
        return (self.data,) if isinstance(self.data, bytes) else self.data


class Attacker:
    """A connection whose owner sends what it likes; what is answered is collected, unless it is not read at all."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()
        self._ended = False
        self._news = trio.Event()

    async def send(self, *packets: bytes) -> bool:
        """Send; returns whether the server still took it."""
        try:
            for packet in packets:
                await self.stream.send_all(packet)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def pour(self, piece: bytes, times: int) -> int:
        """Send `piece` so many times, as long as the server takes it; returns how many bytes went."""
        for count in range(times):
            if not await self.send(piece):
                return count * len(piece)
        return times * len(piece)

    async def read_on(self) -> None:
        """Collect what is answered until the connection ends."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await self.stream.receive_some(65536):
                self.received += chunk
                self._tell()
        self._ended = True
        self._tell()

    async def until(self, pattern: bytes, count: int = 1) -> None:
        """Wait until the answer has the pattern `count` times."""
        with trio.fail_after(PATIENCE):
            while len(re.findall(pattern, self.received, re.DOTALL)) < count:
                assert not self._ended, f"the connection ended without {pattern!r}: {bytes(self.received[:2000])!r}"
                await self._news.wait()

    async def until_end(self) -> None:
        """Wait until the server has ended the connection."""
        with trio.fail_after(PATIENCE):
            while not self._ended:
                await self._news.wait()

    async def upgrade(self, path: str = "/ws/chat:room") -> None:
        """Become a sound WebSocket."""
        await self.send(upgrade(path))
        await self.until(rb"HTTP/1\.1 101 .*\r\n\r\n")

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def tcp(port: int, receive_buffer: int | None = None) -> trio.SocketStream:
    """Connect, with a receive buffer of so many bytes."""
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


def upgrade(path: str = "/ws/chat:room", extra: bytes = b"", change: Callable[[bytes], bytes] = bytes) -> bytes:
    """Return the request for a WebSocket at `path`, with further header lines, or changed in some way."""
    head = (
        b"GET "
        + path.encode("latin1")
        + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    return change(head + extra + b"\r\n")
