"""The JSON format: a frame is one JSON object that names its group; messages have offsets, gaps stand in their place.

It decides nothing about what a client misses.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from triocast.core.message import Gap, Kind, Message
from triocast.core.presence import Member
from triocast.core.wire.format import Delivered, Format, Left, Presence, Told


def payload(told: Told) -> str:
    """Return the JSON object for a message, what stands in its place, the beginning or end of a group's stream, or who
    is there."""
    match told:
        case Message():
            return _message(told).decode()
        case Gap():
            return msgspec.json.encode({"group": told.group, "gap": gap_fields(told)}).decode()
        case Delivered():
            delivered = {"epoch": told.epoch, "offset": told.offset}
            return msgspec.json.encode({"group": told.group, "delivered": delivered}).decode()
        case Left():
            left = {"epoch": told.epoch, "offset": told.offset}
            return msgspec.json.encode({"group": told.group, "left": left}).decode()
        case Presence():
            return msgspec.json.encode({"group": told.group, "presence": presence_fields(told)}).decode()
        case _:
            joined = {"epoch": told.epoch, "offset": told.offset, "policy": told.policy, "client": told.client}
            return msgspec.json.encode({"group": told.group, "joined": joined}).decode()


def gap_fields(gap: Gap) -> dict[str, object]:
    """Return what JSON says of a gap."""
    fields: dict[str, object] = {"from": gap.first, "to": gap.last, "count": gap.count, "reason": gap.reason.value}
    return fields if gap.before is None else {**fields, "epochs": [gap.before, gap.epoch]}


def presence_fields(presence: Presence) -> object:
    """Return what JSON says of who came and went: `"reset"`, or an object of what there is."""
    if presence.reset:
        return "reset"
    fields: dict[str, object] = {}
    if presence.joined:
        fields["joined"] = [member_fields(member) for member in presence.joined]
    if presence.left:
        fields["left"] = [{"client": client, "reason": reason.value} for client, reason in presence.left]
    if presence.moved:
        fields["moved"] = [{"was": moved.was, **member_fields(moved.member)} for moved in presence.moved]
    return fields


def member_fields(member: Member) -> dict[str, object]:
    """Return what JSON says of a member; `claimed` only where it is so."""
    info = None if member.identity.info is None else msgspec.Raw(member.identity.info)
    fields: dict[str, object] = {"client": member.client, "user": member.user, "info": info}
    return {**fields, "claimed": True} if member.claimed else fields


def _message(message: Message) -> bytes:
    # By hand, because what was published as JSON is embedded byte for byte: numbers stay as they were written.
    head = b'{"group":%b,"offset":%d,' % (msgspec.json.encode(message.group), message.offset)
    match message.kind:
        case Kind.JSON:
            return b'%b"data":%b}' % (head, message.data)
        case Kind.TEXT:
            return b'%b"data":%b}' % (head, msgspec.json.encode(message.data.decode()))
        case Kind.BINARY:
            return b'%b"b64data":"%b"}' % (head, b64encode(message.data))


JSON = Format("json", payload, greets=True)
