"""What a listener is told of a group's members: who has come, who has gone, who is somebody's new connection.

It keeps no list of them, and knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_INFO = 1024  # bytes of JSON that a server takes of what a client says of itself
# A server gathers some 64 KiB of members at most, and may go over by the last of them.
MAX_PRESENCE = 128 * 1024

_RESET = "reset"


@dataclass(frozen=True, slots=True)
class Member:
    """A connection in a group. `user` is None for an anonymous one; `info_json` is the JSON that came with it, or None.

    With `claimed`, the client said `info_json` of itself, and nobody has checked it.
    """

    client: str
    user: str | None = None
    info_json: str | None = None
    claimed: bool = False

    @property
    def info(self) -> Any:
        """What the JSON says, None if there is none; raises what `Received.value` does."""
        return None if self.info_json is None else msgspec.json.decode(self.info_json)


@dataclass(frozen=True, slots=True)
class Departure:
    """A connection that is no longer in a group; `reason` is "left", "removed", "lost" (its process died), or "moved".

    One that moved before anybody was told of it is told as its new connection, and left for whoever knew it already.
    """

    client: str
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """A member whose connection was `was` and is another now, as after the reload of a page."""

    was: str
    member: Member


@dataclass(frozen=True, slots=True)
class Presence:
    """What has changed among a group's members, since this was told last; those who moved neither joined nor left."""

    group: str
    joined: tuple[Member, ...] = ()
    left: tuple[Departure, ...] = ()
    moved: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class PresenceReset:
    """What was known of a group's members no longer holds: ask for them now. It is the first that is told, too."""

    group: str


class MemberObject(msgspec.Struct, kw_only=True):
    """A member, as JSON has it."""

    client: str
    user: str | None = None
    info: msgspec.Raw = msgspec.Raw()
    claimed: bool = False


class MovedObject(MemberObject, kw_only=True):
    """A member that has moved, as JSON has it."""

    was: str


class PresenceObject(msgspec.Struct):
    """What a frame says of members, as JSON has it."""

    joined: Sequence[MemberObject] = ()
    left: Sequence[Departure] = ()
    moved: Sequence[MovedObject] = ()


def presence_of(group: str, told: PresenceObject | str) -> Presence | PresenceReset | None:
    """Return what was told; None for what we do not know, as from a server newer than this."""
    if isinstance(told, str):
        return PresenceReset(group) if told == _RESET else None
    moved = tuple(Move(each.was, member_of(each)) for each in told.moved)
    presence = Presence(group, tuple(map(member_of, told.joined)), tuple(told.left), moved)
    return presence if presence != Presence(group) else None


def member_of(told: MemberObject) -> Member:
    """Return the member in an object."""
    info = bytes(told.info).decode()
    return Member(told.client, told.user, info if info not in ("", "null") else None, told.claimed)


def presence_object(item: Presence | PresenceReset) -> dict[str, object]:
    """Return the JSON object that says `item`, as it came from the server."""
    if isinstance(item, PresenceReset):
        return {"group": item.group, "presence": _RESET}
    told: dict[str, Iterable[object]] = {
        "joined": [_member_fields(member) for member in item.joined],
        "left": item.left,
        "moved": [{"was": move.was, **_member_fields(move.member)} for move in item.moved],
    }
    return {"group": item.group, "presence": {kind: each for kind, each in told.items() if each}}


def _member_fields(member: Member) -> dict[str, object]:
    info = None if member.info_json is None else msgspec.Raw(member.info_json.encode())
    fields: dict[str, object] = {"client": member.client, "user": member.user, "info": info}
    return {**fields, "claimed": True} if member.claimed else fields


def info_text(info: Mapping[str, object]) -> str:
    """Return `info` as JSON; raises `ValueError` if it is too large, `TypeError` if it is no JSON object."""
    if not isinstance(info, Mapping):
        raise TypeError("info is a JSON object, as in {'name': 'Ann'}")
    text = msgspec.json.encode(info)
    if len(text) > MAX_INFO:
        raise ValueError(f"info is {len(text)} bytes as JSON: a server takes {MAX_INFO}")
    return text.decode()
