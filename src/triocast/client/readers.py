"""Reads the frames of a WebSocket, which are bare payloads or JSON objects; the objects in events are the same.

Pure: frames come in as arguments, nothing is received here and nothing decided about connections.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from triocast.client.errors import UnexpectedFrame
from triocast.client.frames import Delivered, Frame, Gap, Joined, Left, Received
from triocast.client.presence import PresenceObject, presence_of

# In JSON a character takes six at most (\u0000), and a byte less in base64; then the envelope, whose longest part is
# the group: 255 characters, each escaped.
ESCAPED = 6
ENVELOPE = 1024

HEAD = re.compile(r'\{"group":("(?:[^"\\]|\\.)*"),"offset":([0-9]+),"data":')


class Reader(Protocol):
    """Reads the frames of one format."""

    def max_frame(self, max_message: int) -> int:
        """Return how large the frame of a message of `max_message` can be."""

    def read(self, frame: str | bytes) -> Frame:
        """Return what a frame says; None for what we do not know. Raises `UnexpectedFrame`."""


class RawReader:
    """Frames are payloads."""

    def __init__(self, groups: Sequence[str]) -> None:
        self._group = groups[0] if len(groups) == 1 else None

    def max_frame(self, max_message: int) -> int:
        return max_message

    def read(self, frame: str | bytes) -> Received:
        return Received(frame, self._group)


class _GapObject(msgspec.Struct, rename={"first": "from", "last": "to"}):
    first: int
    last: int
    reason: str
    epochs: tuple[str, str] | None = None


class _JoinedObject(msgspec.Struct):
    epoch: str
    offset: int


class _LeftObject(msgspec.Struct):
    epoch: str
    offset: int
    code: int | None = None
    reason: str | None = None


class _DeliveredObject(msgspec.Struct):
    epoch: str
    offset: int


class _Object(msgspec.Struct):
    group: str
    offset: int | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: bytes | None = None
    gap: _GapObject | None = None
    joined: _JoinedObject | None = None
    left: _LeftObject | None = None
    delivered: _DeliveredObject | None = None
    presence: PresenceObject | str | None = None


class JsonReader:
    """Frames are JSON objects; `room` is how large those may be that are no messages."""

    def __init__(self, room: int = 0) -> None:
        self._room = room

    def max_frame(self, max_message: int) -> int:
        return max(ESCAPED * max_message + ENVELOPE, self._room)

    def read(self, frame: str | bytes) -> Frame:
        told = _decode(frame)
        if told.joined is not None:
            return Joined(told.group, told.joined.epoch, told.joined.offset)
        if told.gap is not None:
            return Gap(told.group, told.gap.first, told.gap.last, told.gap.reason, told.gap.epochs)
        if told.left is not None:
            return Left(told.group, told.left.epoch, told.left.offset, told.left.code, told.left.reason or "")
        if told.delivered is not None:
            return Delivered(told.group, told.delivered.epoch, told.delivered.offset)
        if told.presence is not None:
            return presence_of(told.group, told.presence)
        return _received(told)


def _decode(frame: str | bytes) -> _Object:
    if isinstance(frame, bytes):
        raise UnexpectedFrame("the server sent a binary frame where JSON was asked for; is it a Triocast?")
    try:
        return msgspec.json.decode(frame, type=_Object)
    except RecursionError:
        return _decode_deep(frame)
    except msgspec.DecodeError as error:
        raise UnexpectedFrame(f"the server sent what is no message in JSON ({error}); is it a Triocast?") from error


def _decode_deep(frame: str) -> _Object:
    """Read a message nested more deeply than we can follow; one publisher must not end all who listen."""
    head = HEAD.match(frame)
    if head is None:
        raise UnexpectedFrame("the server sent JSON that is nested too deeply; is it a Triocast?")
    data = frame[head.end() : -1].encode()
    return _Object(msgspec.json.decode(head[1], type=str), int(head[2]), msgspec.Raw(data))


def _received(told: _Object) -> Received | None:
    """Return the message in an object; None if there is none, as in an object of a server newer than this."""
    if told.b64data is not None:
        return Received(told.b64data, told.group, told.offset)
    data = bytes(told.data)
    if data.startswith(b'"'):
        return Received(msgspec.json.decode(data, type=str), told.group, told.offset)
    return Received(data.decode(), told.group, told.offset, is_json=True) if data else None
