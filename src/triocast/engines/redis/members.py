"""Members as the server has them, and what a group's channel tells of them.

A member is `DIGEST USERLEN `, its user and its JSON; a DIGEST of `-` recognises nobody, a USERLEN of -1 is no user.
What tells of members is `@` and a JSON list of changes, in order. It reads and writes bytes, and asks nobody for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.presence import Change, Departed, Entered, Member, Moved, Reason
from triocast.core.wire.json import member_fields

TOLD = b"@"
"""What a payload about members begins with; a message begins with its epoch."""


class _Shown(msgspec.Struct):
    client: str
    user: str | None
    info: msgspec.Raw
    claimed: bool = False


def pack_member(member: Member) -> bytes:
    """Write a member."""
    user = b"" if member.user is None else member.user.encode()
    length = -1 if member.user is None else len(user)
    return b"%b %d %b%b" % (_digest(member), length, user, msgspec.json.encode(member_fields(member)))


def unpack_member(packed: bytes) -> Member:
    """Read a member."""
    _, length, rest = packed.split(b" ", 2)
    return _member(rest[max(0, int(length)) :])


def unpack_changes(payload: bytes) -> Sequence[Change]:
    """Read what came on a group's channel; of members that left only their connections. Raises `ValueError`."""
    return [_change(*each) for each in _read_changes(payload.removeprefix(TOLD))]


def _change(what: msgspec.Raw, first: msgspec.Raw, second: msgspec.Raw | None = None) -> Change:
    match bytes(what):
        case b'"+"':
            return Entered(_member(first))
        case b'"-"' if second is not None:
            return Departed(Member(_text(first)), Reason(_text(second)))
        case b'"~"' if second is not None:
            return Moved(_member(second), _text(first))
    raise ValueError("a change of members that is none")


def _member(text: bytes | msgspec.Raw) -> Member:
    shown = _read_member(text)
    info = None if bytes(shown.info) == b"null" else bytes(shown.info)
    anonymous = shown.user is None and info is None
    return Member(shown.client, ANONYMOUS if anonymous else Identity(shown.user, info, shown.claimed))


def _digest(member: Member) -> bytes:
    if member.user is not None:
        known_by = b"u" + member.user.encode()
    elif member.identity.info is not None:
        known_by = b"i" + member.identity.info
    else:
        return b"-"
    return blake2b(known_by, digest_size=8).hexdigest().encode()


_read_member = msgspec.json.Decoder(_Shown).decode
_read_changes = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_text = msgspec.json.Decoder(str).decode
