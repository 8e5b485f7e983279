"""A small HTTP door for peers that speak only WebSocket: POST publishes the body, on one asyncio protocol.

It keeps connections alive and answers `ok`; it knows just enough of HTTP for the load client, so that it costs a peer
as little as can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MAX_REQUEST = 2 << 20


class Door(asyncio.Protocol):
    """One publisher's connection."""

    def __init__(self, publish: Callable[[bytes], None]) -> None:
        self._publish = publish
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """Publish every whole request and answer it."""
        self._request += data
        while (body := self._next_body()) is not None:
            self._publish(body)
            self._transport.write(ANSWER)
        if len(self._request) > MAX_REQUEST:
            self._transport.abort()

    def _next_body(self) -> bytes | None:
        head, found, rest = self._request.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
        size = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
        if len(rest) < size:
            return None
        self._request = rest[size:]
        return rest[:size]


async def open_door(port: int, publish: Callable[[bytes], None]) -> asyncio.Server:
    """Listen for publishers; `publish` is called with the body of each POST."""
    return await asyncio.get_running_loop().create_server(lambda: Door(publish), "127.0.0.1", port, backlog=1024)
