"""The JSON format: a frame is one JSON object that names its group; messages have offsets, gaps stand in their place.

It decides nothing about what a client misses.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from triocast.core.message import Gap, Kind, Message
from triocast.core.wire.format import Format, Left, Told


def payload(told: Told) -> str:
    """Return the JSON object for a message, a gap, or the beginning or end of a group's stream."""
    match told:
        case Message():
            return _message(told).decode()
        case Gap():
            return msgspec.json.encode({"group": told.group, "gap": gap_fields(told)}).decode()
        case Left():
            left: dict[str, object] = {"epoch": told.epoch, "offset": told.offset}
            if told.why is not None:
                left |= {"code": told.why.code, "reason": told.why.reason}
            return msgspec.json.encode({"group": told.group, "left": left}).decode()
        case _:
            joined = {"epoch": told.epoch, "offset": told.offset, "policy": told.policy, "client": told.client}
            return msgspec.json.encode({"group": told.group, "joined": joined}).decode()


def gap_fields(gap: Gap) -> dict[str, object]:
    """Return what JSON says of a gap."""
    fields: dict[str, object] = {"from": gap.first, "to": gap.last, "count": gap.count, "reason": gap.reason.value}
    return fields if gap.before is None else {**fields, "epochs": [gap.before, gap.epoch]}


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
