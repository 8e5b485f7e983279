"""A reader of server-sent events and of chunks that keeps to the letter of the standards, and forgives nothing."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import dataclass

import trio

HEX = re.compile(rb"[1-9a-f][0-9a-f]{0,7}")


@dataclass(frozen=True)
class Event:
    """What a browser would dispatch."""

    name: str
    data: str
    id: str


class Reader:
    """An event stream (WHATWG HTML, 9.2.6), fed with bytes as they come."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self.comments = 0
        self._bytes = b""
        self._id = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: object) -> list[Event]:
        """Return the events that `data` completes."""
        assert isinstance(data, bytes)
        events = []
        *lines, self._bytes = (self._bytes + data).split(b"\n")
        for line in lines:
            assert b"\r" not in line, "a CR would end a line"
            event = self._line(line.decode())
            events += [event] if event is not None else []
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self.comments += 1
            case "id":
                assert "\x00" not in value
                self._id = value
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "retry":
                assert value.isascii()
                assert value.isdigit()
                self.retry = int(value)
            case _:
                raise AssertionError(line)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return Event(name, "\n".join(data), self.last_id) if data else None


class Chunks:
    """The body of a chunked response (RFC 9112, 7.1), fed with bytes as they come; `whole` once the last chunk came."""

    def __init__(self) -> None:
        self.whole = False
        self._bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the chunks that `data` completes."""
        self._bytes += data
        body = b""
        while (chunk := self._chunk()) is not None:
            body += chunk
        assert not (self.whole and self._bytes), f"after the last chunk came {self._bytes!r}"
        return body

    def _chunk(self) -> bytes | None:
        size, end, rest = self._bytes.partition(b"\r\n")
        if not end or self.whole:
            assert len(size) <= 8 or self.whole, size
            return None
        if size == b"0":
            assert rest in (b"", b"\r", b"\r\n"), rest
            self.whole = rest == b"\r\n"
            self._bytes = b"" if self.whole else self._bytes
            return None
        assert HEX.fullmatch(size), size
        length = int(size, 16)
        if len(rest) < length + 2:
            return None
        assert rest[length : length + 2] == b"\r\n", rest[:100]
        self._bytes = rest[length + 2 :]
        return rest[:length]


def unchunk(data: bytes) -> bytes:
    """Return what chunks carry that are whole."""
    chunks = Chunks()
    body = chunks.feed(data)
    assert chunks._bytes == b"", "the last chunk is not whole"
    return body


PATIENCE = 20.0  # seconds until a test gives up; a bound, not a measure
RESET = struct.pack("ii", 1, 0)


class Listener:
    """A client of server-sent events over HTTP/1 that checks every byte it is given."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.status = 0
        self.headers: dict[str, str] = {}
        self.reader = Reader()
        self.chunks: Chunks | None = None  # while the answer is chunked
        self.bite = 65_536  # bytes read at once
        self._events: list[Event] = []

    async def ask(self, target: str, *headers: str, version: str = "1.1", behind: bytes = b"") -> Listener:
        """Ask, with `behind` in the same packet, and read the head of the answer."""
        head = "\r\n".join([f"GET {target} HTTP/{version}", "Host: localhost", *headers, "", ""])
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(head.encode() + behind)
            got = b""
            while not got.endswith(b"\r\n\r\n"):  # byte by byte: what follows the head is the parser's
                piece = bytes(await self.stream.receive_some(1))
                assert piece, got
                got += piece
        line, *lines = got.decode("latin1").strip().split("\r\n")
        self.status, self.headers = int(line.split()[1]), {}
        for each in lines:
            name, _, value = each.partition(": ")
            assert self.headers.setdefault(name.lower(), value) == value, "a header that stands there twice"
        self.chunks = Chunks() if self.headers.get("transfer-encoding") == "chunked" else None
        return self

    async def listen(self, target: str, *headers: str, version: str = "1.1", behind: bytes = b"") -> Listener:
        """Ask for a stream, which must be given."""
        await self.ask(target, *headers, version=version, behind=behind)
        assert (self.status, self.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (self.chunks is not None) == (version == "1.1")
        return self

    async def read(self) -> bool:
        """Read once; False at the end."""
        try:
            data = bytes(await self.stream.receive_some(self.bite))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._events += self.reader.feed(data if self.chunks is None else self.chunks.feed(data))
        return bool(data)

    async def event(self) -> Event:
        """Return the next event."""
        with trio.fail_after(PATIENCE):
            while not self._events:
                if not await self.read():
                    raise EOFError
        return self._events.pop(0)

    async def events(self, count: int) -> list[Event]:
        return [await self.event() for _ in range(count)]

    async def joined(self, *groups: str) -> Listener:
        """Read the beginning of each group's stream."""
        names = [event.name for event in await self.events(len(groups) or 1)]
        assert set(names) == {"join"}
        return self

    async def comment(self) -> None:
        """Read until another comment has come."""
        before = self.reader.comments
        with trio.fail_after(PATIENCE):
            while self.reader.comments == before:
                assert await self.read()

    async def to_the_end(self) -> list[Event]:
        """Read until the server ends the connection; return all events since the last that was asked for."""
        with trio.fail_after(PATIENCE):
            while await self.read():
                pass
        events, self._events = self._events, []
        return events

    @property
    def whole(self) -> bool:
        """Whether the last chunk has come."""
        return self.chunks is not None and self.chunks.whole

    @property
    def socket(self) -> trio.socket.SocketType:
        stream = self.stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        assert isinstance(plain, trio.SocketStream)
        return plain.socket

    def reset(self) -> None:
        """Leave with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


async def connect(port: int, *, buffer: int | None = None, trust: ssl.SSLContext | None = None) -> Listener:
    """Connect a client; `buffer` is the size of its receive buffer to ask for, with `trust` it speaks TLS."""
    sock = trio.socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    await sock.connect(("127.0.0.1", port))
    stream: trio.abc.Stream = trio.SocketStream(sock)
    if trust is not None:
        stream = trio.SSLStream(stream, trust, server_hostname="localhost", https_compatible=True)
    return Listener(stream)
