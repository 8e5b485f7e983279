"""What clients of the simulation read off the wire: frames and chunks, as what they say, each with its size.

It judges no more than whether the bytes are sound; `simulation_model` knows what they have to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from tests.sse import HEX, Event
from tests.sse import Reader as StreamReader
from tests.transports.strict import CLOSE, TEXT, Strict

ECHO = "echo "
"""How what a client is sent by its handler begins."""


class SaidGap(msgspec.Struct, frozen=True):
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    count: int
    reason: str
    epochs: tuple[str, str] | None = None


class SaidJoined(msgspec.Struct, frozen=True):
    epoch: str
    offset: int
    policy: str


class SaidLeft(msgspec.Struct, frozen=True):
    epoch: str
    offset: int


class SaidDelivered(msgspec.Struct, frozen=True):
    epoch: str
    offset: int


class SaidMember(msgspec.Struct, frozen=True):
    client: str
    user: str | None
    info: dict[str, Any] | None
    claimed: bool = False

    @property
    def member(self) -> SaidMember:
        """Who it is."""
        return SaidMember(self.client, self.user, self.info, self.claimed)


class SaidMoved(SaidMember, frozen=True, kw_only=True):
    was: str


class SaidDeparture(msgspec.Struct, frozen=True):
    client: str
    reason: str


class SaidPresence(msgspec.Struct, frozen=True):
    """Who came to a group and who went."""

    joined: tuple[SaidMember, ...] = ()
    left: tuple[SaidDeparture, ...] = ()
    moved: tuple[SaidMoved, ...] = ()


class Said(msgspec.Struct, frozen=True):
    """A message (of a group, as far as the client is told), or that one was delivered which excludes the client, or of
    a group's stream the beginning, a gap or the end; or who is there."""

    group: str
    offset: int | None = None
    data: str | None = None
    gap: SaidGap | None = None
    joined: SaidJoined | None = None
    left: SaidLeft | None = None
    delivered: SaidDelivered | None = None
    presence: SaidPresence | str | None = None
    id: str | None = None  # of an event; None: it has none, or there are no ids


@dataclass(frozen=True, slots=True)
class Closing:
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Echo:
    text: str


Item = tuple[int, Said | Echo | Closing | None]  # with how many bytes it takes; None says nothing


class WireReader(Protocol):
    @property
    def halfway(self) -> bool:
        """Whether something has begun and not ended."""

    def feed(self, data: bytes) -> Iterator[Item]: ...


class FrameReader:
    """Of a WebSocket, in the raw format or in JSON."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._strict = Strict()

    @property
    def halfway(self) -> bool:
        return self._strict.halfway

    def feed(self, data: bytes) -> Iterator[Item]:
        whole = None if self._strict.halfway else _whole_frames(data, self._raw)
        if whole is not None:
            yield from whole
            return
        for frame in self._strict.feed(data):
            yield _frame_item(frame.opcode, frame.payload, self._raw)


class EventReader:
    """Of server-sent events, each in a chunk; of several groups with an id before it, in a chunk of its own."""

    def __init__(self) -> None:
        self._bytes = b""
        self._id: tuple[int, str] | None = None
        self._over = False

    @property
    def halfway(self) -> bool:
        return bool(self._bytes) or self._id is not None

    def feed(self, data: bytes) -> Iterator[Item]:
        assert not self._over, "bytes after the last chunk"
        whole = None if self._bytes else _whole_chunks(data)
        if whole is None:
            bodies, self._bytes = _chunks(self._bytes + data)
        else:
            bodies = whole
        for size, body in bodies:
            if not body:
                self._over = True
            elif body.endswith(b"\n\n"):
                yield from self._events(size, body)
            else:
                assert self._id is None
                assert body.startswith(b"id: "), body
                self._id = size, body[4:-1].decode()

    def _events(self, size: int, body: bytes) -> Iterator[Item]:
        before, self._id = self._id, None
        events = _events(body)
        if before is not None:
            (said,) = events
            assert isinstance(said, Said)
            yield size + before[0], msgspec.structs.replace(said, id=before[1])
            return
        for event in events[:-1]:
            yield 0, event
        yield size, events[-1] if events else None


@lru_cache(4096)  # all clients are written the same bytes
def _whole_frames(data: bytes, raw: bool) -> list[Item] | None:
    """Return what the frames say that `data` is; None if it does not end with one."""
    strict = Strict()
    frames = [_frame_item(frame.opcode, frame.payload, raw) for frame in strict.feed(data)]
    return None if strict.halfway else frames


def _frame_item(opcode: int, payload: bytes, raw: bool) -> Item:
    size = len(payload)
    size += 2 if size < 126 else 4 if size < 65_536 else 10
    if opcode == CLOSE:
        return size, Closing(int.from_bytes(payload[:2]), payload[2:].decode())
    assert opcode == TEXT
    text = payload.decode()
    if text.startswith(ECHO):
        return size, Echo(text)
    return size, _message(text) if raw else msgspec.json.decode(payload, type=Said)


def _message(text: str, event_id: str | None = None) -> Said:
    return Said(text.partition("|")[0], data=text, id=event_id)


@lru_cache(4096)
def _whole_chunks(data: bytes) -> list[tuple[int, bytes]] | None:
    chunks, rest = _chunks(data)
    return None if rest else chunks


def _chunks(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the chunks in `data`, with the size of each, and what is left."""
    found = []
    while True:
        head, end, rest = data.partition(b"\r\n")
        assert head == b"0" or not end or HEX.fullmatch(head), head
        length = int(head, 16) if end else 0
        if not end or len(rest) < length + 2:
            return found, data
        assert rest[length : length + 2] == b"\r\n"
        found.append((len(head) + 4 + length, rest[:length]))
        data = rest[length + 2 :]


@lru_cache(4096)
def _events(body: bytes) -> list[Said | Echo | Closing]:
    reader = StreamReader()
    return [_event(event) for event in reader.feed(body)]


def _event(event: Event) -> Said | Echo | Closing:
    match event.name:
        case "close":
            return msgspec.json.decode(event.data, type=Closing)
        case "message" if event.data.startswith(ECHO):
            return Echo(event.data)
        case "message":
            return _message(event.data, event.id or None)
        case _:
            said = msgspec.json.decode(event.data, type=Said)
            assert (event.name == "gap") == (said.gap is not None)
            assert (event.name == "leave") == (said.left is not None)
            assert (event.name == "delivered") == (said.delivered is not None)
            assert (event.name == "presence") == (said.presence is not None)
            return msgspec.structs.replace(said, id=event.id or None)
