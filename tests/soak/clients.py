"""The clients of a soak, in a process of their own: python -m tests.soak.clients PORT COUNT FILE GROUP...

Each listens to one group and writes down what it is given. Says "ready" when all are connected; once it reads a line it
waits until each has had the message `FINAL`, at most `PATIENCE` seconds, writes the records to FILE and says "done".
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
import trio_websocket

from tests.soak.verdict import Given, Record, Told
from triocast.client.frames import Gap, Left
from triocast.client.listener import open_listener
from triocast.client.way import TransportName

FINAL = "the last one"
PATIENCE = 60.0  # seconds until messages that have not come are lost
AT_ONCE = 40  # clients that connect at the same time: the crowd is not what is tested
BROKEN = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
)

Ready = trio.TaskStatus[None]


class Client:
    """One client and what it was given."""

    def __init__(self, port: int, group: str, kind: str) -> None:
        self.port = port
        self.record = Record(group, kind, [])
        self.finished = trio.Event()

    async def run(self, *, task_status: Ready) -> None:
        ways: dict[str, Callable[[Ready], Awaitable[None]]] = {
            "websocket": lambda status: self._listen("websocket", status),
            "sse": lambda status: self._listen("sse", status),
            "since": self._come_back,
        }
        await ways[self.record.kind](task_status)

    def _take(self, entry: Given | Told) -> None:
        self.record.entries.append(entry)
        if isinstance(entry, Given) and entry.text == FINAL:
            self.finished.set()

    async def _listen(self, transport: TransportName, status: Ready) -> None:
        """With the Python client, which comes back by itself."""
        group = self.record.group
        async with open_listener(f"http://127.0.0.1:{self.port}", [group], transport=transport) as listener:
            status.started()
            async for item in listener:
                assert not isinstance(item, Left)
                epoch = listener.positions[group].partition(":")[0]
                if isinstance(item, Gap):
                    self._take(Told(epoch, item.first, item.last, item.epochs and item.epochs[0]))
                else:
                    assert isinstance(item.data, str)
                    assert item.offset is not None
                    self._take(Given(epoch, item.offset, item.data))

    async def _come_back(self, status: Ready) -> None:
        """As a bare WebSocket client does that counts payloads, and names its position when it comes back."""
        epoch, offset, begun = "", 0, False
        while True:
            query = f"?strict=1&since={epoch}:{offset}" if epoch else "?strict=1"
            try:
                async with bare_websocket(self.port, f"/ws/{self.record.group}{query}") as socket:
                    told = dict(socket.handshake_headers)[b"triocast-position"].decode()
                    now, _, begins = told.partition(":")
                    if epoch and now != epoch:
                        self._take(Told(now, 1, int(begins), before=epoch))
                    elif epoch and int(begins) != offset:
                        self._take(Told(now, offset + 1, int(begins)))
                    epoch, offset = now, int(begins)
                    if not begun:
                        begun = True
                        status.started()
                    while True:
                        data = await socket.get_message()
                        assert isinstance(data, str)
                        offset += 1
                        self._take(Given(epoch, offset, data))
            except* BROKEN:
                await trio.sleep(random.uniform(0.05, 0.5))


@asynccontextmanager
async def bare_websocket(port: int, target: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect; raises one of `BROKEN`, or a group of them, when that fails."""
    with trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.open_nursery() as nursery:
        try:
            with trio.fail_after(10):
                socket = await trio_websocket.wrap_client_stream(nursery, stream, f"127.0.0.1:{port}", target)
            yield socket
        finally:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


def kind_of(number: int, groups: int) -> str:
    """Which way a client listens: of each group one by server-sent events, one by itself, and the rest as most do."""
    return {0: "sse", 1: "since"}.get(number // groups, "websocket")


async def main(port: int, count: int, file: Path, groups: list[str]) -> None:
    """Run the clients."""
    clients = [Client(port, groups[n % len(groups)], kind_of(n, len(groups))) for n in range(count)]
    places = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def begin(client: Client) -> None:
            async with places:
                await nursery.start(client.run)

        async with trio.open_nursery() as starting:
            for client in clients:
                starting.start_soon(begin, client)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        with trio.move_on_after(PATIENCE):
            for client in clients:
                await client.finished.wait()
        nursery.cancel_scope.cancel()
    file.write_bytes(msgspec.json.encode([client.record for client in clients]))
    print("done", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
