"""The load of a soak: publishes at a steady rate that are repeated until acknowledged, beside clients that write down.

It breaks nothing; what happens meanwhile is the case's.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import trio

from tests.e2e.processes import Process, running
from tests.soak.clients import FINAL, PATIENCE
from tests.soak.verdict import Place, Record, Verdict, judge

ATTEMPT = 15.0  # seconds for one request; then it is asked again
PAUSE = 0.1  # seconds between two attempts
LOOK = 0.05  # seconds between two attempts to connect
REQUEST = "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
UPGRADE = (
    "GET /ws/probe HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Size:
    """How much load."""

    clients: int = 400
    groups: int = 20
    rate: float = 50.0
    """Publishes a second."""


class Receipt(msgspec.Struct):
    """What a publisher is answered."""

    epoch: str
    offset: int


class Answer(Exception):
    """An answer that is no receipt."""


@dataclass
class Load:
    """What is published to the server at `host` and `port`, and what came of it."""

    host: str
    port: int
    size: Size
    crowds: list[Process]
    files: list[Path]
    receipts: dict[str, dict[str, Place]] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0
    """Answers that were none: the publish was repeated."""
    connected: int = 0
    not_connected: int = 0
    slowest: float = 0.0
    """Seconds that a successful attempt to connect took."""
    longest_wait: float = 0.0
    """Seconds in which no attempt succeeded."""
    _last_connected: float = 0.0
    _more: trio.Event = field(default_factory=trio.Event)
    _stop: trio.CancelScope = field(default_factory=trio.CancelScope)
    _idle: trio.Event = field(default_factory=trio.Event)

    @property
    def groups(self) -> list[str]:
        return groups_of(self.size)

    async def run(self) -> None:
        """Publish until `finish`, and then until all is acknowledged."""
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            with self._stop:
                for number in count():
                    await trio.sleep_until(begin + number / self.size.rate)
                    nursery.start_soon(self.publish, self.groups[number % self.size.groups], f"message {number}")
        self._idle.set()

    async def publish(self, group: str, text: str) -> None:
        """Publish until that is acknowledged, with a key, so that it is done once."""
        path = f"/publish/{group}?idempotency_key={text.replace(' ', '-')}"
        request = REQUEST.format(path=path, length=len(text), body=text)
        while True:
            try:
                receipt = await self._attempt(request.encode())
                break
            except (OSError, trio.BrokenResourceError, trio.TooSlowError, Answer):
                self.refused += 1
                self._wake()
                await trio.sleep(PAUSE)
        self.receipts.setdefault(group, {})[text] = (receipt.epoch, receipt.offset)
        self.acknowledged += 1
        self._wake()

    async def more(self, seconds: float) -> None:
        """Wait until as much has been acknowledged as is published in so many seconds; messages at least."""
        target = self.acknowledged + max(1, round(seconds * self.size.rate))
        while self.acknowledged < target:
            await self._more.wait()

    async def refusals(self) -> None:
        """Wait until publishers notice that something is wrong."""
        before = self.refused
        while self.refused == before:
            await self._more.wait()

    async def keep_connecting(self) -> None:
        """Begin to connect again and again, whatever became of the last attempt; note how long no attempt succeeded."""
        self._last_connected = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._try_to_connect)
                await trio.sleep(LOOK)

    async def finish(self) -> Verdict:
        """Stop publishing, let the clients take what is theirs, and return what came of it all."""
        self._stop.cancel()
        await self._idle.wait()
        for group in self.groups:
            await self.publish(group, FINAL)
        records: list[Record] = []
        for crowd, file in zip(self.crowds, self.files, strict=True):
            await crowd.say("finish\n")
            with trio.fail_after(PATIENCE + 30):
                while "done" not in crowd.output:
                    assert crowd.process.returncode is None, crowd.output
                    await trio.sleep(0.01)
            records += msgspec.json.decode(file.read_bytes(), type=list[Record])
        return judge(self.receipts, records)

    async def _attempt(self, request: bytes) -> Receipt:
        with trio.fail_after(ATTEMPT):
            async with await trio.open_tcp_stream(self.host, self.port) as stream:
                await stream.send_all(request)
                data = bytearray()
                async for piece in stream:
                    data += piece
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Answer(head)
        return msgspec.json.decode(body, type=Receipt)

    async def _try_to_connect(self) -> None:
        began = trio.current_time()
        if not await self._can_connect():
            self.not_connected += 1
            return
        now = trio.current_time()
        self.connected += 1
        self.slowest = max(self.slowest, now - began)
        self.longest_wait = max(self.longest_wait, now - self._last_connected)
        self._last_connected = now

    async def _can_connect(self) -> bool:
        try:
            with trio.fail_after(ATTEMPT):
                async with await trio.open_tcp_stream(self.host, self.port) as stream:
                    await stream.send_all(UPGRADE.encode())
                    return (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            return False

    def _wake(self) -> None:
        self._more.set()
        self._more = trio.Event()


def groups_of(size: Size) -> list[str]:
    return [f"group-{number}" for number in range(size.groups)]


@asynccontextmanager
async def crowd(port: int, count: int, groups: Sequence[str], file: Path, *before: str) -> AsyncIterator[Process]:
    """Run a process of clients, by the command `before` if there is one."""
    words = [sys.executable, "-m", "tests.soak.clients", str(port), str(count), str(file), *groups]
    async with running(*before, *words) as process:
        await process.wait_for("ready")
        yield process


@asynccontextmanager
async def loaded(port: int, size: Size) -> AsyncIterator[Load]:
    """Put a server of this machine under load while the block lasts; its clients are connected before it begins."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "records.json"
        async with crowd(port, size.clients, groups_of(size), file) as clients, trio.open_nursery() as nursery:
            load = Load("127.0.0.1", port, size, [clients], [file])
            nursery.start_soon(load.run)
            yield load
            nursery.cancel_scope.cancel()
