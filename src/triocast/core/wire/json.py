"""The JSON format: a frame is one JSON object that names its group; messages have offsets, gaps stand in their place.

It decides nothing about what a client misses.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from triocast.core.message import Gap, Kind, Message
from triocast.core.wire.format import Format, Told


def payload(told: Told) -> str:
    """Return the JSON object for a message, a gap, or the beginning of a group's stream."""
    match told:
        case Message():
            return _message(told).decode()
        case Gap(group=group, first=first, last=last, count=count, reason=reason):
            gap = {"from": first, "to": last, "count": count, "reason": reason.value}
            return msgspec.json.encode({"group": group, "gap": gap}).decode()
        case _:
            joined = {"epoch": told.epoch, "offset": told.offset, "policy": told.policy, "client": told.client}
            return msgspec.json.encode({"group": told.group, "joined": joined}).decode()


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
