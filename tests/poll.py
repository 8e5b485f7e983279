"""A client that polls over HTTP/1, request after request on one connection, and checks what it is answered."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

PATIENCE = 20.0  # seconds until a test gives up; a bound, not a measure
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers by lower-case name, and its body, which is JSON unless it is empty."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        code: str = self.said["error"]["code"]
        return code

    @property
    def data(self) -> list[object]:
        """The data of all its messages, which has to be all of them; gaps are none."""
        assert self.status == 200, self
        return [message["data"] for message in self.said["messages"]]

    @property
    def next(self) -> str:
        """The position to go on from."""
        position: str = self.said["next"]
        return position


class Poller:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.bite = 65_536  # bytes read at once
        self._got = b""

    async def ask(self, target: str, *headers: str, method: str = "GET", version: str = "1.1") -> None:
        """Send a request."""
        head = "\r\n".join([f"{method} {target} HTTP/{version}", "Host: localhost", *headers, "", ""])
        await self.stream.send_all(head.encode())

    async def answer(self, method: str = "GET") -> Answer:
        """Read the next answer."""
        with trio.fail_after(PATIENCE):
            while b"\r\n\r\n" not in self._got:
                await self._read()
            head, _, self._got = self._got.partition(b"\r\n\r\n")
            line, *lines = head.decode("latin1").split("\r\n")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
            length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
            while len(self._got) < length:
                await self._read()
            body, self._got = self._got[:length], self._got[length:]
            return Answer(int(line.split()[1]), headers, body)

    async def poll(self, target: str, *headers: str) -> Answer:
        """Ask, and wait for the answer."""
        await self.ask(target, *headers)
        return await self.answer()

    async def ends(self) -> bool:
        """Wait for the server to end the connection; whether nothing came before."""
        with trio.fail_after(PATIENCE):
            try:
                return not self._got and not await self.stream.receive_some()
            except trio.BrokenResourceError:
                return True

    @property
    def socket(self) -> trio.socket.SocketType:
        assert isinstance(self.stream, trio.SocketStream)
        return self.stream.socket

    def reset(self) -> None:
        """Leave with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    async def _read(self) -> None:
        data = bytes(await self.stream.receive_some(self.bite))
        if not data:
            raise EOFError(self._got)
        self._got += data


@asynccontextmanager
async def poller(port: int, *, buffer: int | None = None) -> AsyncIterator[Poller]:
    """Connect a client for a block; `buffer` is the size of its receive buffer to ask for."""
    sock = trio.socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    await sock.connect(("127.0.0.1", port))
    try:
        yield Poller(trio.SocketStream(sock))
    finally:
        sock.close()
