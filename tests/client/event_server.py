"""A server in memory that answers a listener's request for events byte by byte."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
import trio.testing

from triocast.client import Listener, ListenerSettings, open_listener
from triocast.client.target import Target

URL = "http://server:8000"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FORBIDDEN = b'{"error": {"code": "forbidden", "message": "that is not for you"}}'
Clock = trio.testing.MockClock


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Asked:
    """A request, and the stream that it came on."""

    def __init__(self, stream: Any, head: str) -> None:
        self.stream = stream
        self.line, *headers = head.split("\r\n")
        self.path = self.line.split(" ")[1]
        self.headers = dict(header.split(": ", 1) for header in headers)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def events(self, *events: str) -> None:
        for event in events:
            await self.send(chunk(event.encode() + b"\n\n"))

    async def close(self, code: int, reason: str) -> None:
        await self.events(f'event: close\ndata: {{"code":{code},"reason":"{reason}"}}')
        with suppress(trio.BrokenResourceError):
            await self.send(b"0\r\n\r\n")

    async def cut(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def left(self) -> None:
        """Wait until the client has closed its side."""
        with suppress(trio.BrokenResourceError):
            assert await self.stream.receive_some() == b""


class Server:
    """Takes the connections that the listener dials."""

    def __init__(self, nursery: trio.Nursery, pair: Any, **settings: Any) -> None:
        self.nursery = nursery
        self.dialled = 0
        self._pair = pair
        self._settings = settings
        self._send, self._receive = trio.open_memory_channel[Any](10)

    def listen(self, groups: tuple[str, ...] = ("chat",), **kwargs: Any) -> Any:
        settings = ListenerSettings(dial=self.dial, random=random.Random(1), **self._settings)
        return open_listener(URL, groups, transport="sse", settings=settings, **kwargs)

    async def dial(self, target: Target, context: ssl.SSLContext | None) -> Any:
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        ours, theirs = self._pair()
        await self._send.send(theirs)
        return ours

    async def request(self) -> Asked:
        stream = await self._receive.receive()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some()
        return Asked(stream, head.decode().removesuffix("\r\n\r\n"))

    async def accept(self, head: bytes = CHUNKED) -> Asked:
        asked = await self.request()
        await asked.send(head)
        return asked

    def answer(self, *data: bytes, over: bool = False) -> None:
        """Answer the next request with some bytes, and leave it at that; or close the connection, too."""

        async def answer() -> None:
            asked = await self.request()
            for each in data:
                await asked.send(each)
            if over:
                await asked.cut()
            else:
                await trio.sleep_forever()

        self.nursery.start_soon(answer)


@asynccontextmanager
async def serving(pair: Any = trio.testing.memory_stream_pair, **settings: Any) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        yield Server(nursery, pair, **settings)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    server: Server, groups: tuple[str, ...] = ("chat",), head: bytes = CHUNKED, **kwargs: Any
) -> AsyncIterator[tuple[Listener, Asked]]:
    send, accepted = trio.open_memory_channel[Asked](1)

    async def accept() -> None:
        await send.send(await server.accept(head))

    server.nursery.start_soon(accept)
    async with server.listen(groups, **kwargs) as messages:
        yield messages, await accepted.receive()


async def take(messages: Listener, count: int) -> list[Any]:
    return [await anext(messages) for _ in range(count)]


def joined(offset: int, epoch: str = "e", group: str = "chat") -> str:
    return f'event: join\ndata: {{"group":"{group}","joined":{{"epoch":"{epoch}","offset":{offset}}}}}'


def message(offset: int, group: str = "chat") -> str:
    return f'data: {{"group":"{group}","offset":{offset},"data":"x"}}'
