"""A WebSocket server in memory for one listener; what happens on its connections is up to the test."""

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing
import trio_websocket

from triocast.client import ListenerSettings, open_listener

URL = "http://server:8000"
FORBIDDEN = b'{"error": {"code": "forbidden", "message": "that is not for you"}}'


@dataclass
class Server:
    """Takes the connections that the listener dials; what happens on them is up to the test."""

    nursery: trio.Nursery
    pair: object = trio.testing.memory_stream_pair
    settings: dict = field(default_factory=dict)
    dialled: int = 0

    def __post_init__(self):
        self._send, self._receive = trio.open_memory_channel(10)

    def listen(self, groups=("chat",), **kwargs):
        settings = ListenerSettings(dial=self.dial, random=random.Random(1), **self.settings)
        return open_listener(URL, groups, settings=settings, **{"format": "raw", **kwargs})

    async def dial(self, target, context):
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        ours, theirs = self.pair()
        await self._send.send(theirs)
        return ours

    async def stream(self):
        return await self._receive.receive()

    async def request(self):
        return await trio_websocket.wrap_server_stream(self.nursery, await self.stream())

    async def accept(self):
        return await (await self.request()).accept()

    async def reject(self, status, body=b""):
        await (await self.request()).reject(status, body=body)

    def soon(self, function, *args):
        self.nursery.start_soon(function, *args)


@asynccontextmanager
async def serving(**kwargs):
    async with trio.open_nursery() as nursery:
        yield Server(nursery, **kwargs)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server, groups=("chat",), **kwargs):
    """Listen, and give the server's side of the first connection too."""
    send, accepted = trio.open_memory_channel(1)

    async def accept():
        await send.send(await server.accept())

    server.soon(accept)
    async with server.listen(groups, **kwargs) as messages:
        yield messages, await accepted.receive()


async def gather(messages):
    return [received.data async for received in messages]


def message(offset, data='"x"', group="chat"):
    return f'{{"group":"{group}","offset":{offset},"data":{data}}}'


def joined(offset, epoch="e", group="chat"):
    return f'{{"group":"{group}","joined":{{"epoch":"{epoch}","offset":{offset},"policy":"latest","client":"c"}}}}'


async def accept_at(server, position, *, lose=True):
    """Take a connection, say where its streams begin, and lose it."""
    websocket = await (await server.request()).accept(extra_headers=[(b"Triocast-Position", position.encode())])
    if lose:
        await websocket._stream.aclose()
    return websocket
