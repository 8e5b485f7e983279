"""What events mean to a listener: payloads whose group and offset their ids tell, or the objects of the JSON format.

Pure: events come in as arguments, nothing is received here and nothing decided about connections.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Protocol

import msgspec

from triocast.client.attempt import Ended
from triocast.client.errors import UnexpectedFrame
from triocast.client.events import Event
from triocast.client.frames import Frame, Received
from triocast.client.readers import ENVELOPE, JsonReader
from triocast.core.message import Position
from triocast.core.positions import parse_since
from triocast.errors import InvalidPosition

# What their data is, both formats say in the same way.
_TOLD = frozenset({"join", "gap", "leave", "delivered", "presence"})


class EventReader(Protocol):
    """Reads the events of one connection."""

    def max_data(self, max_message: int) -> int:
        """Return how large the data of a message of `max_message` can be."""

    def read(self, event: Event) -> Frame:
        """Return what an event says; None for what we do not know. Raises `UnexpectedFrame`."""


class JsonEvents:
    """The data of every event is a JSON object; `room` is how large those may be that are no messages."""

    def __init__(self, room: int = 0) -> None:
        self._objects = JsonReader(room)

    def max_data(self, max_message: int) -> int:
        return self._objects.max_frame(max_message)

    def read(self, event: Event) -> Frame:
        return self._objects.read(event.data) if event.name == "message" or event.name in _TOLD else None


class PayloadEvents:
    """The data of messages are payloads. The id has a position for each group, and that which a message is of has
    moved on with it; a message whose id is the one before is for this client alone, and of no group.
    `room` is how large the data of events may be that are no messages."""

    def __init__(self, groups: Sequence[str], room: int = 0) -> None:
        self._groups = groups
        self._room = room
        self._objects = JsonReader()
        self._id = ""
        self._known: Sequence[Position] | None = None

    def max_data(self, max_message: int) -> int:
        return max(max_message * 4 // 3 + ENVELOPE, self._room)  # in base64

    def read(self, event: Event) -> Frame:
        before, moved = self._known, event.id != self._id or not event.id
        self._note(event.id)
        if event.name in _TOLD:
            return self._objects.read(event.data)
        if event.name not in ("message", "binary"):
            return None
        data = _binary(event.data) if event.name == "binary" else event.data
        group, offset = self._place(before) if moved else (None, None)
        return Received(data, group, offset)

    def _note(self, last_id: str) -> None:
        self._id = last_id
        try:
            positions = [parse_since(text) for text in last_id.split(",")]
        except InvalidPosition:
            positions = []
        self._known = positions if len(positions) == len(self._groups) else None

    def _place(self, before: Sequence[Position] | None) -> tuple[str | None, int | None]:
        """Return group and offset of a message by the ids before it and with it, as far as they tell."""
        if len(self._groups) == 1:
            return self._groups[0], self._known[0].offset if self._known else None
        if before is None or self._known is None:
            return None, None
        zipped = zip(self._groups, before, self._known, strict=True)
        moved = [(group, now.offset) for group, was, now in zipped if was != now]
        if len(moved) != 1:
            raise UnexpectedFrame(f"the server moved {len(moved)} groups on with one message; is it a Triocast?")
        return moved[0]


class _CloseObject(msgspec.Struct):
    code: int
    reason: str = ""


def read_close(event: Event) -> Ended | None:
    """Return why the server ends the stream, None if that is not what the event says. Raises `UnexpectedFrame`."""
    if event.name != "close":
        return None
    try:
        told = msgspec.json.decode(event.data, type=_CloseObject)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnexpectedFrame(f"the server's close says nothing that we know ({error}); is it a Triocast?") from error
    return Ended(told.code, told.reason)


def _binary(data: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnexpectedFrame("the server sent a binary event that is not base64; is it a Triocast?") from error
