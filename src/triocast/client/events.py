"""An event stream (WHATWG HTML, 9.2.6): bytes in any cut go in, events come out.

It reads, and knows nothing of what events mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from triocast.client.errors import ListenerClosed
from triocast.errors import TOO_BIG

BOM = b"\xef\xbb\xbf"
# Bytes of a line beside a message: the names of fields, and an id with the positions of as many groups as there may be.
LINE_ROOM = 4096

_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """What a browser would dispatch; `id` is that of the last event that had one."""

    name: str
    data: str
    id: str


class EventStream:
    """Reads one stream, and holds at most one event of `max_data` bytes.

    `retry` is passed over: when to come back is the listener's to decide.
    """

    def __init__(self, max_data: int) -> None:
        self._max_data = max_data
        self._begun = False  # whether the place of a byte order mark is past
        self._after_cr = False  # a LF that comes next ends no line of its own
        self._line = bytearray()  # what there is of the line that has not ended
        self._name = ""
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Give the events that `data` completes, to be taken before more is fed.

        Raises `ListenerClosed` (1009) for one that is too large.
        """
        data = self._without_bom(data)
        if not data:
            return
        if self._after_cr:
            data = data.removeprefix(b"\n")
        start = 0
        for end in _LINE_END.finditer(data):
            event = self._end_line(data[start : end.start()])
            if event is not None:
                yield event
            start = end.end()
        self._after_cr = data.endswith(b"\r")
        self._line += data[start:]
        self._check(len(self._line))

    def _without_bom(self, data: bytes) -> bytes:
        if self._begun:
            return data
        data = bytes(self._line) + data
        self._line.clear()
        if data != BOM and BOM.startswith(data):  # what follows says whether it is one
            self._line += data
            return b""
        self._begun = True
        return data.removeprefix(BOM)

    def _check(self, length: int) -> None:
        if length > self._max_data + LINE_ROOM:
            self._refuse()

    def _end_line(self, rest: bytes) -> Event | None:
        line = rest
        if self._line:
            line = bytes(self._line) + rest
            self._line.clear()
        self._check(len(line))
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        self._take(name, value.removeprefix(b" "))
        return None

    def _take(self, field: bytes, value: bytes) -> None:
        match field:
            case b"data":
                self._size += len(value) + 1  # an empty one is a newline
                if self._size > self._max_data + 1:
                    self._refuse()
                self._data.append(value)
            case b"event":
                self._name = _text(value)
            case b"id" if b"\0" not in value:
                self._id = _text(value)

    def _dispatch(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, _text(b"\n".join(data)), self._id) if data else None

    def _refuse(self) -> None:
        raise ListenerClosed(TOO_BIG.code, f"an event of more than {self._max_data} bytes")


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
