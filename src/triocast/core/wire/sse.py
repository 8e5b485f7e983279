"""Server-sent events (WHATWG HTML, 9.2): what a client is told as events, each of them one chunk of HTTP/1.1.

It knows no connection and writes nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import msgspec

from triocast.core.log import Entry
from triocast.core.message import Gap, Kind, Message, Position
from triocast.core.wire.format import Delivered, Format, Joined, Left, Presence, Told
from triocast.core.wire.json import payload as json_payload
from triocast.errors import Close

COMMENT = b": \n\n"
"""What readers pass over, for proxies that cut off what is silent."""


class Events(Format):
    """Events with their group's position as `id`; or without, for whoever writes an `id_line` of its own before each.

    `write` makes an event without it. A frame is a whole chunk, and one serves all the clients of a format.
    """

    def __init__(self, name: str, write: Callable[[Told], bytes], *, ids: bool) -> None:
        super().__init__(name, self._with_id if ids else write, greets=True)
        self._write = write

    def payload(self, told: Told) -> bytes:
        """Return the event."""
        return cast("bytes", super().payload(told))

    def _frame(self, told: Told) -> bytes:
        return chunk(cast("bytes", self.encode(told)))

    def _with_id(self, told: Told) -> bytes:
        event = self._write(told)
        return event if isinstance(told, Presence) else id_line([position_of(told)]) + event


def position_of(told: Entry | Joined | Left | Delivered) -> Position:
    """Return up to where a client knows a group once it was told this; of who is there, no position says."""
    match told:
        case Message():
            return told.position
        case Gap():
            return Position(told.epoch, told.last)
        case _:
            return Position(told.epoch, told.offset)


def event(told: Told) -> bytes:
    """Return an event without `id`, a message's payload in it; of all else, what the JSON format says of it."""
    if isinstance(told, Message):
        return data_event(told.data, binary=told.kind is Kind.BINARY)
    return json_event(told)


def json_event(told: Told) -> bytes:
    """Return an event without `id`, whose data is what the JSON format says."""
    data = _lines(json_payload(told).encode())
    match told:
        case Message():
            return data
        case Gap():
            name = b"gap"
        case Delivered():
            name = b"delivered"
        case Left():
            name = b"leave"
        case Presence():
            name = b"presence"
        case _:
            name = b"join"
    return b"event: %b\n%b" % (name, data)


def data_event(data: bytes, *, binary: bool = False) -> bytes:
    """Return the event of a payload: UTF-8, or `binary` in base64."""
    return b"event: binary\n" + _lines(b64encode(data)) if binary else _lines(data)


def close_event(close: Close) -> bytes:
    """Return the event that says why the response ends. It has no `id`: nobody's position has changed."""
    return b"event: close\n" + _lines(msgspec.json.encode({"code": close.code, "reason": close.reason}))


def id_line(positions: Iterable[Position | str]) -> bytes:
    """Return the line that says what a client has: the position of each of its groups, in the order it named them."""
    return b"id: %b\n" % ",".join(map(str, positions)).encode()


def retry_line(seconds: float) -> bytes:
    """Return what tells a client how long to wait before it connects again."""
    return b"retry: %d\n\n" % round(seconds * 1000)


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of an HTTP/1.1 response (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _lines(data: bytes) -> bytes:
    # CR ends a line as LF does, so that a reader could not tell them apart in any spelling.
    plain = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
    return b"data: %b\n\n" % plain.replace(b"\n", b"\ndata: ")


SSE = Events("sse", event, ids=True)
"""For clients of one group."""

SSE_MANY = Events("sse-many", event, ids=False)
"""For clients of several groups."""

SSE_JSON = Events("sse-json", json_event, ids=True)
SSE_JSON_MANY = Events("sse-json-many", json_event, ids=False)

EVENTS: Mapping[str, tuple[Events, Events]] = {"raw": (SSE, SSE_MANY), "json": (SSE_JSON, SSE_JSON_MANY)}
"""What each format that a client can ask for is as events, for those of one group and of several."""
