"""Messages as the server has them: one packed form, in streams, on channels and as last values.

`EPOCH OFFSET ID KIND TIME KEYLEN ` and then the key and the data. KIND is a letter, and behind that the id of the
connection that the message excludes, if it does; a KEYLEN of -1 is no key. What tells a channel of a
new epoch is `!EPOCH OFFSET`. It reads and writes bytes, and asks nobody for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from triocast.core.message import Draft, Kind, Message, Position

_LETTERS = {Kind.TEXT: b"t", Kind.JSON: b"j", Kind.BINARY: b"b"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """A message, and the random id by which two messages of the same offset are told apart."""

    message: Message
    id: bytes


def unpack(group: str, packed: bytes, epoch: str | None = None) -> Entry:
    """Read a message. Its epoch is `epoch` where that is known: a group that begins a new one keeps its messages."""
    own, offset, id_, kind, _, length, rest = packed.split(b" ", 6)
    key, data = None, rest
    if length != b"-1":
        key, data = rest[: int(length)].decode(), rest[int(length) :]
    exclude = kind[1:].decode() or None
    return Entry(Message(group, epoch or own.decode(), int(offset), _KINDS[kind[:1]], data, key, exclude), id_)


def unpack_told(group: str, payload: bytes) -> Entry | Position:
    """Read what came on a group's channel: a message, or the position at which a new epoch begins."""
    if not payload.startswith(b"!"):
        return unpack(group, payload)
    epoch, offset = payload[1:].split(b" ")
    return Position(epoch.decode(), int(offset))


def arguments(draft: Draft) -> tuple[bytes, bytes, int, bytes]:
    """Return what the server is given of a draft: kind and whom it excludes, data, length of the key, key."""
    kind = _LETTERS[draft.kind] + (draft.exclude or "").encode()
    if draft.key is None:
        return kind, draft.data, -1, b""
    key = draft.key.encode()
    return kind, draft.data, len(key), key


def digest(draft: Draft) -> str:
    """Return what tells a repeat from another message with the same idempotency key.

    That is not whom it excludes: who asks again may have another connection by then.
    """
    kind, data, length, key = arguments(draft)
    return blake2b(b"%b %d %b" % (kind[:1], length, key) + data, digest_size=16).hexdigest()
