"""What frames mean to a listener: messages, gaps, ends of streams, read from bare payloads or from the JSON format.

Pure: frames come in as arguments, nothing is received here and nothing decided about connections.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from triocast.client.errors import UnexpectedFrame

# In JSON a character takes six at most (\u0000), and a byte less in base64; then the envelope, whose longest part is
# the group: 255 characters, each escaped.
ESCAPED = 6
ENVELOPE = 1024

HEAD = re.compile(r'\{"group":("(?:[^"\\]|\\.)*"),"offset":([0-9]+),"data":')


@dataclass(frozen=True, slots=True)
class Received:
    """A message: text is `str`, binary is `bytes`; JSON is its text, and `is_json` says so (a JSON string is text).

    The raw format does not tell everything: there `offset` is None, `group` too when several are listened to, and
    JSON looks like text.
    """

    data: str | bytes
    group: str | None
    offset: int | None = None
    is_json: bool = False

    @property
    def value(self) -> object:
        """What was sent: JSON decoded, everything else as it is. Raises `RecursionError` for the deepest of JSON."""
        return msgspec.json.decode(self.data) if self.is_json else self.data


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that this listener does not get, in their place: offsets `first` to `last`, both included.

    `reason` is the server's (docs/recovery.md), or "untold" where messages are missing and the server did not say why.
    With "epoch" the group's history began afresh: `epochs` are the one before and the one now, the offsets are those
    of the latter, and there may be none; nobody knows what was missed of the former.
    """

    group: str
    first: int
    last: int
    reason: str
    epochs: tuple[str, str] | None = None

    @property
    def count(self) -> int:
        """How many messages are missing."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Joined:
    """Where the stream of a group begins: what follows `offset` of `epoch` is what comes."""

    group: str
    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Left:
    """The server has taken this listener out of a group: nothing more of it comes, after `offset` of `epoch`.

    Should it be taken in again, what comes then begins there: of what was published meanwhile nothing is said. Where
    somebody has removed it on purpose, `code` and `reason` are what they had to say.
    """

    group: str
    epoch: str
    offset: int
    code: int | None = None
    reason: str = ""


Item = Received | Gap | Left
Frame = Item | Joined | None


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
    reason: str = ""


class _Object(msgspec.Struct):
    group: str
    offset: int | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: bytes | None = None
    gap: _GapObject | None = None
    joined: _JoinedObject | None = None
    left: _LeftObject | None = None


class JsonReader:
    """Frames are JSON objects."""

    def max_frame(self, max_message: int) -> int:
        return ESCAPED * max_message + ENVELOPE

    def read(self, frame: str | bytes) -> Frame:
        told = _decode(frame)
        if told.joined is not None:
            return Joined(told.group, told.joined.epoch, told.joined.offset)
        if told.gap is not None:
            return Gap(told.group, told.gap.first, told.gap.last, told.gap.reason, told.gap.epochs)
        if told.left is not None:
            left = told.left
            return Left(told.group, left.epoch, left.offset, left.code, left.reason)
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
