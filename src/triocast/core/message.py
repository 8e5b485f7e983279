"""What is published and what a subscriber is given: drafts, messages, positions, gaps and receipts.

Nothing here decides anything about delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar, cast

import msgspec

from triocast.core.names import check_connection_id, check_idempotency_key, check_key
from triocast.errors import InvalidMessage, MessageTooLarge

OVERHEAD = 64  # what a message weighs beside what it says: roughly the objects that hold it

_Encoded = TypeVar("_Encoded")


class Kind(Enum):
    """What the bytes of a message are; text and json are UTF-8."""

    TEXT = "text"
    JSON = "json"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a group's log: the `epoch` (new whenever history starts afresh) and the `offset` in it, from 1."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @property
    def text(self) -> str:
        """The position as it is told and asked for: `EPOCH:OFFSET`, and `0` before everything."""
        return str(self) if self.epoch or self.offset else "0"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before it has a position: its kind, its payload as bytes, and a key for policies that need one.

    Of all with the same `idempotency_key` a group is given one. The connection whose id is `exclude` is told that it
    was published, and not given it. With `expected` it is published only if that is the position of the group's newest
    message; `Position("", 0)`, if there is none yet.
    """

    kind: Kind
    data: bytes
    key: str | None = None
    idempotency_key: str | None = None
    exclude: str | None = None
    expected: Position | None = None

    @classmethod
    def of(
        cls,
        value: object,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        exclude: str | None = None,
        expected: Position | None = None,
    ) -> Draft:
        """Make a draft of a Python value: `str` is text, `bytes` is binary, the rest becomes json.

        A draft is checked, since a group must not fail on it later, and keeps of its options those that are not given.
        Raises `InvalidMessage` for what neither UTF-8 nor JSON can say, `InvalidKey`, `InvalidIdempotencyKey`,
        `InvalidConnectionId`.
        """
        if isinstance(value, Draft):
            kind, data = value.kind, _checked(value.kind, value.data)
            key = value.key if key is None else key
            idempotency_key = value.idempotency_key if idempotency_key is None else idempotency_key
            exclude = value.exclude if exclude is None else exclude
            expected = value.expected if expected is None else expected
        else:
            kind, data = _payload(value)
        if key is not None:
            check_key(key)
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        if exclude is not None:
            check_connection_id(exclude)
        return cls(kind, data, key, idempotency_key, exclude, expected)

    @classmethod
    def parse(cls, kind: Kind, data: bytes, *, key: str | None = None) -> Draft:
        """Make a draft of bytes from outside, kept byte for byte.

        Raises `InvalidMessage` if the bytes are not what `kind` promises.
        """
        return cls(kind, _checked(kind, data), key)

    @property
    def weight(self) -> int:
        """What the message will count in every bound in bytes."""
        return len(self.data) + len(self.key or "") + len(self.exclude or "") + OVERHEAD

    def check_size(self, max_message: int) -> None:
        """Raise `MessageTooLarge` if the payload has more than `max_message` bytes."""
        if len(self.data) > max_message:
            raise MessageTooLarge(f"the message has {len(self.data)} bytes; max_message allows {max_message}")


@dataclass(slots=True, eq=False)
class Shared:
    """Something that many are told: it remembers its encodings."""

    _encodings: dict[Callable[[Any], Any], Any] | None = field(default=None, init=False, repr=False)

    def encoded(self, encode: Callable[[Any], _Encoded]) -> _Encoded:
        """Return `encode(self)`, computed on first use and shared by all who ask with the same function."""
        if self._encodings is None:
            self._encodings = {}
        try:
            return cast("_Encoded", self._encodings[encode])
        except KeyError:
            result = self._encodings[encode] = encode(self)
            return result

    def forget_encodings(self) -> None:
        """Drop what `encoded` remembers; it is computed anew when asked for."""
        self._encodings = None


@dataclass(slots=True, eq=False)
class Message(Shared):
    """One message with its position; immutable but for the encodings it remembers.

    The connection whose id is `exclude` is told that it was published, and not given it.
    """

    group: str
    epoch: str
    offset: int
    kind: Kind
    data: bytes
    key: str | None = None
    exclude: str | None = None

    @property
    def position(self) -> Position:
        """Where the message stands in its group's log."""
        return Position(self.epoch, self.offset)

    @property
    def weight(self) -> int:
        """What the message counts in every bound in bytes: payload + key + excluded id + 64, whatever its formats."""
        return len(self.data) + len(self.key or "") + len(self.exclude or "") + OVERHEAD


class GapReason(Enum):
    """Why messages are missing."""

    SLOW = "slow"  # the client lagged by more than the group allows
    SUPERSEDED = "superseded"  # newer messages of the same key follow, and the client lagged
    LOST = "lost"  # the engine no longer had them
    LIMIT = "limit"  # more than is recovered at once
    EPOCH = "epoch"  # the group's history began afresh; what was missed before that, nobody knows


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages a subscriber does not get, named in their place: offsets `first` to `last`, both included.

    With the reason EPOCH, `before` is the epoch that the subscriber knew, and the offsets are those of `epoch`; there
    may be none.
    """

    group: str
    epoch: str
    first: int
    last: int
    reason: GapReason
    before: str | None = None

    @property
    def count(self) -> int:
        """How many messages are missing."""
        return self.last - self.first + 1

    @property
    def weight(self) -> int:
        """Nothing: there is one for any number of messages."""
        return 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a publisher learns: where its message stands, how many subscribers the group had just before, and how many
    of them were still busy with earlier messages.

    `approximate` counts are those of all processes, as each has last reported them. A `repeated` receipt is that of an
    earlier publish with the same idempotency key: nothing was published now.
    """

    group: str
    epoch: str
    offset: int
    subscribers: int
    behind: int
    approximate: bool = False
    repeated: bool = False


def _payload(value: object) -> tuple[Kind, bytes]:
    try:
        match value:
            case str():
                return Kind.TEXT, value.encode()
            case bytes() | bytearray() | memoryview():
                return Kind.BINARY, bytes(value)
            case _:
                return Kind.JSON, msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"a {type(value).__name__} can't be sent as a message: {error}") from error


def _checked(kind: Kind, data: bytes) -> bytes:
    """Return `data` if it is what `kind` promises."""
    if kind is not Kind.BINARY:
        _check_text(data)
    if kind is Kind.JSON:
        _check_json(data)
    return data


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"the message is not UTF-8: {error.reason} at byte {error.start}") from error


def _check_json(data: bytes) -> None:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidMessage(f"the message is not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidMessage("the message is JSON nested too deeply") from error
