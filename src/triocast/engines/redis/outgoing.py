"""What waits to be written to a server, and how a plain socket is read and written in one turn of the event loop.

It knows bytes: what they ask, and what is answered, is the connection's.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import trio
from anyio import EndOfStream
from anyio.abc import ByteStream, SocketAttribute, SocketStream

ONE_READ = 64 * 1024  # bytes
ONE_WRITE = 64 * 1024  # bytes that are joined into one write; what is more goes in the next one

Pack = Callable[..., Sequence[bytes]]
"""Spells a command, given as its name and what follows, as a server reads it."""


class Outgoing:
    """Commands that wait to be written, in place of coredis's stream, which takes a turn of the event loop for each."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._packed: deque[bytes] = deque()
        self._some = trio.Event()
        self.size = 0
        """Bytes that wait, without those that are being written."""

    @property
    def empty(self) -> bool:
        """Whether the writer has written all there was, and waits for more."""
        return not self._some.is_set()

    async def __aenter__(self) -> None:
        """Be one of the things that coredis opens, which this needs not."""

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def send_nowait(self, commands: Sequence[tuple[bytes, Sequence[Any]]]) -> None:
        """Put commands in; as coredis calls it."""
        for name, rest in commands:
            self.put(self._pack(name, *rest))

    def put(self, packed: Sequence[bytes]) -> None:
        """Put in what is spelled already."""
        self._packed += packed
        self.size += sum(map(len, packed))
        self._some.set()

    async def take(self) -> bytes:
        """Wait for commands and return as many as are written at once."""
        if not self._packed:
            self._some = trio.Event()
            await self._some.wait()
        taken = []
        size = 0
        while self._packed and size < ONE_WRITE:
            taken.append(self._packed.popleft())
            size += len(taken[-1])
        self.size -= size
        return b"".join(taken)

    def close(self) -> None:
        """Let go of what was not written."""
        self._packed.clear()
        self.size = 0


def plain_socket(stream: ByteStream) -> socket.socket | None:
    """Return the socket, if what goes over it is not encrypted."""
    return stream.extra(SocketAttribute.raw_socket) if isinstance(stream, SocketStream) else None  # noqa: S610


async def receive_what_comes(plain: socket.socket) -> bytes:
    """Wait for what comes without trying first: whoever has just read has nothing to read. Raises `EndOfStream`."""
    while True:
        await trio.lowlevel.wait_readable(plain)
        try:
            data = plain.recv(ONE_READ)
        except BlockingIOError:
            continue
        if not data:
            raise EndOfStream
        return data


def send_what_goes(plain: socket.socket, data: bytes) -> bytes:
    """Write without waiting; returns the rest."""
    try:
        return data[plain.send(data) :]
    except BlockingIOError:
        return data
