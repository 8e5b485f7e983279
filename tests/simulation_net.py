"""TCP connections of a virtual network: bounded kernel buffers that clients drain at their own pace, on trio's clock.

Above the kernel is what production runs: the link's writer and handle, the transports. Hypercorn is not here.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from triocast.core.wire import Format
from triocast.link import LINK_KEY, Handle, writing
from triocast.meters import Eviction
from triocast.transport import Transport
from triocast.transports.direct import DirectTransport
from triocast.transports.events import Call
from triocast.transports.portable import PortableTransport

WAYS = ("direct", "gathered", "portable")
"""To write to a client: the broadcaster itself, its own task with whole frames (as over TLS), ASGI's `send`."""

HTTP_VERSION = {"direct": "1.1", "portable": "1.0"}
"""Of a request for events, to be answered in this way."""

SAME_WAIT = 0.5  # seconds: the writer looks at what it waits for now and then, and goes on waiting
WRITABLE = 2 / 3  # of a kernel's buffer may be full for it to be called writable: Linux wants a third free


class Kernel:
    """The sending side of one connection: `size` bytes, drained by the client at `rate` bytes a second while it reads.

    `take` gets every byte the moment it is accepted. A system call costs `cost` seconds, so that rounds last.
    """

    def __init__(self, size: int, rate: float, cost: float, take: Callable[[bytes], None]) -> None:
        self.size = size
        self.waiting_since: float | None = None  # when somebody began to wait for room, and has not written since
        self.moved_at = -math.inf  # when the client last took something
        self.finished = False  # FIN is out
        self.reset = False
        self.closed = False
        self.on_close: Callable[[], None] = lambda: None
        self.partial = 0  # how often less than all was accepted
        self.breaks_after = math.inf  # bytes that it accepts before the client is gone
        self.on_break: Callable[[], None] = lambda: None
        self._rate = rate
        self._cost = cost
        self._take = take
        self._used = 0.0
        self._drained_at = trio.current_time()
        self._broken = False
        self._waited_until = -math.inf
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Kernel {self._used:.0f} of {self.size} bytes{', closed' if self.closed else ''}>"

    @property
    def writable(self) -> bool:
        self._drain()
        return self._used <= self.size * WRITABLE + 1e-6

    @property
    def queued(self) -> int:
        """How many bytes the client has not taken."""
        self._drain()
        return math.ceil(self._used)

    # What the client does

    def read_at(self, rate: float) -> None:
        """Read at `rate` bytes a second from now on; 0 is a stall, infinity all there is at once."""
        self._drain()
        self._rate = rate
        self._look()

    def break_off(self) -> None:
        """The client is gone: writes fail from now on, and what it has not taken it never will."""
        self._drain()
        self._rate = 0.0
        self._broken = True
        self._look()

    # What the server does

    def send(self, data: bytes) -> int:
        """Accept what there is room for."""
        if self._cost:
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, trio.testing.MockClock)
            clock.jump(self._cost)
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        if self._broken:
            raise ConnectionResetError
        assert not self.finished, "data after FIN"
        self._drain()
        taken = min(len(data), int(self.size - self._used))
        if not taken:
            raise BlockingIOError
        taken = int(min(taken, self.breaks_after))
        self.breaks_after -= taken
        self.waiting_since = None
        if self._rate != math.inf:
            self._used += taken
        self.partial += taken < len(data)
        self._take(data[:taken])
        if not self.breaks_after:
            self.breaks_after = math.inf
            self.on_break()
        if not taken:
            raise ConnectionResetError
        return taken

    def sendmsg(self, views: Iterable[memoryview]) -> int:
        """Accept what there is room for of several pieces."""
        return self.send(b"".join(views))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._look()
            self.on_close()

    async def wait_room(self) -> None:
        """Wait as for a socket to be writable, which it is with a third of its buffer free, or broken."""
        now = trio.current_time()
        if self.waiting_since is None or now > self._waited_until + SAME_WAIT:
            self.waiting_since = now
        try:
            await trio.lowlevel.checkpoint()
            while not (self._broken or self.closed or self.writable):
                full = self._used - self.size * WRITABLE
                with trio.move_on_after(full / self._rate if self._rate else math.inf):
                    await self._changed.wait()
        finally:
            self._waited_until = trio.current_time()
        if self.closed:
            raise trio.ClosedResourceError

    def _drain(self) -> None:
        now = trio.current_time()
        read = math.inf if self._rate == math.inf else self._rate * (now - self._drained_at)
        before, self._used = self._used, max(0.0, self._used - read)
        if math.ceil(self._used) < math.ceil(before):
            self.moved_at = now
        self._drained_at = now

    def _look(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class VirtualSocket:
    """What the writer uses of trio's socket, its kernel in the place of the socket underneath."""

    def __init__(self, kernel: Kernel) -> None:
        self._sock = kernel

    def setsockopt(self, level: int, option: int, value: object) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self._sock.reset = True

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self._sock.finished = True

    def close(self) -> None:
        self._sock.close()


@contextmanager
def virtual_network() -> Iterator[None]:
    """While the block lasts, ask virtual sockets what the writer asks event loop and kernel about real ones."""
    wait_writable, unacknowledged = trio.lowlevel.wait_writable, writing.unacknowledged

    async def wait_room(sock: object) -> None:
        await (sock._sock.wait_room() if isinstance(sock, VirtualSocket) else wait_writable(sock))  # type: ignore[arg-type]

    trio.lowlevel.wait_writable = wait_room
    writing.unacknowledged = lambda sock: sock._sock.queued
    try:
        yield
    finally:
        trio.lowlevel.wait_writable, writing.unacknowledged = wait_writable, unacknowledged


class VirtualLink:
    """The server's side of one connection in the place of Hypercorn and the link: handshake, close, end."""

    terminating = False
    takes_frames = True

    def __init__(self, kernel: Kernel, write_timeout: float) -> None:
        stream: Any = SimpleNamespace(socket=VirtualSocket(kernel))
        self.writer = writing.Writer(stream, write_timeout)
        self.gone = trio.Event()
        self._kernel = kernel
        self._said, self._heard = trio.open_memory_channel[str | None](math.inf)  # None: the client's Close
        self._goodbye = False
        self.on_close: Callable[[], None] = lambda: None
        self.headers: Mapping[str, str] = {}  # of the answer to the handshake
        kernel.on_close = self._socket_closed

    @property
    def eviction(self) -> Eviction | None:
        return Eviction.WRITE_TIMEOUT if self.writer.stalled else None

    def transport(self, way: str, form: Format) -> Transport:
        """Return the production transport that writes in this way."""
        handle = Handle(self)
        if way == "portable":
            return PortableTransport(self.receive, self.send, self, form, handle, math.inf)
        direct = DirectTransport(self.receive, self, form, handle)
        if way == "gathered":
            direct.outlet = None
        return direct

    def call(self, way: str, headers: Sequence[tuple[bytes, bytes]]) -> Call:
        """Return a request for events that is answered in this way, "direct" or "portable"."""
        state = {LINK_KEY: Handle(self)}
        scope = {"type": "http", "http_version": HTTP_VERSION[way], "headers": headers, "state": state}
        return Call(scope, self.receive_end, self.answer)

    # What the client does

    def say(self, data: str) -> None:
        if not self._kernel.closed:
            self._said.send_nowait(data)

    def say_goodbye(self) -> None:
        if not self._kernel.closed:
            self._said.send_nowait(None)

    def break_off(self) -> None:
        self._kernel.break_off()
        self._said.close()

    # ASGI, and Quart's websocket

    async def receive(self) -> dict[str, Any]:
        try:
            said = await self._heard.receive()
        except trio.EndOfChannel:
            self.writer.close()
            self.gone.set()
            return {"type": "websocket.disconnect", "code": 1006}
        if said is None:
            await self.close(1000)
            return {"type": "websocket.disconnect", "code": 1000}
        return {"type": "websocket.receive", "text": said}

    async def send(self, event: dict[str, Any]) -> None:
        if self._goodbye:
            await trio.lowlevel.checkpoint()
        else:
            await self.writer.send_all(frame(0x81, event["text"].encode()))

    async def accept(self, headers: Mapping[str, str]) -> None:
        await trio.lowlevel.checkpoint()
        self.headers = headers
        self.begin_data()

    async def close(self, code: int, reason: str = "") -> None:
        if not self._goodbye:
            self._goodbye = True
            self.writer.end_data()
            await self.writer.send_all(frame(0x88, code.to_bytes(2) + reason.encode()))
            await self.writer.finish()

    # ASGI of a request, whose answer is chunks; its head is left out

    async def receive_end(self) -> dict[str, Any]:
        with suppress(trio.EndOfChannel):
            await self._heard.receive()
        self.writer.close()
        self.gone.set()
        return {"type": "http.disconnect"}

    async def answer(self, event: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if event["type"] == "http.response.start" or self._goodbye:
            return
        body: bytes = event["body"]
        await self.writer.send_all(chunk(body)) if event["more_body"] else await self._end_answer(chunk(body))

    async def _end_answer(self, last: bytes) -> None:
        self._goodbye = True
        self.writer.end_data()
        await self.writer.send_all(last + chunk(b""))
        await self.writer.finish()

    def begin_stream(self) -> None:
        """Nothing but the client's end is of interest from here on; there is nothing else."""

    def begin_chunks(self) -> bool:
        self.begin_data()
        return True

    # The end

    async def wait_terminating(self) -> None:
        await trio.sleep_forever()

    def begin_data(self) -> None:
        self.writer.begin_data()

    def reset(self) -> None:
        self.writer.reset()
        self.gone.set()

    def end(self) -> None:
        """The connection is over."""
        self.writer.close()
        self.gone.set()

    def _socket_closed(self) -> None:
        self.on_close()
        self._said.close()


def chunk(data: bytes) -> bytes:
    """Return a chunk as h11 would write it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame as Hypercorn would write it."""
    size = len(payload)
    head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    return bytes([first]) + head + payload
