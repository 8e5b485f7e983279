"""What a listener gives, as the command line shows it: messages on standard output, the rest in words or as JSON.

It knows nothing of connections.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import click
import msgspec

from triocast.cli.people import People
from triocast.client import Gap, Left, Presence, Received
from triocast.client.frames import Item
from triocast.client.presence import presence_object


class Told:
    """Standard output, and how many messages went there."""

    def __init__(
        self, line_of: Callable[[Item], bytes | None], say: Callable[[str], None], people: People, count: int | None
    ) -> None:
        self._line_of = line_of
        self._say = say
        self._people = people
        self._left = count

    @property
    def enough(self) -> bool:
        return self._left == 0

    def write(self, item: Item) -> None:
        """Write a line; what has none is said on standard error."""
        line = self._line_of(item)
        if line is not None:
            # Blocking, on purpose: whoever reads our output slowly slows us down, and TCP then the server.
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()
        else:
            self._explain(item)
        if self._left is not None and isinstance(item, Received):
            self._left -= 1

    def _explain(self, item: Item) -> None:
        match item:
            case Gap():
                self._say(_gap_text(item))
            case Left():
                self._say(_left_text(item))
            case Presence():
                for line in self._people.lines(item):
                    click.secho(line, err=True, dim=True)

    def position(self, groups: Sequence[str], positions: Mapping[str, str]) -> None:
        """Say how to go on from here, if that is known of all groups."""
        if all(group in positions for group in groups):
            since = " ".join(f"{group} --since {positions[group]}" for group in groups)
            self._say(f"to go on from here: triocast listen {since}")


def _gap_text(gap: Gap) -> str:
    if gap.reason == "superseded":  # as where a stream begins with last values: nothing that still holds is missing
        return f"passed over {gap.count} of {gap.group}, {gap.first} to {gap.last}: newer ones of their keys follow"
    if gap.epochs is None:
        return f"missed {gap.count} of {gap.group}, {gap.first} to {gap.last} ({gap.reason})"
    before, now = gap.epochs
    known = f"; of the new one, {gap.first} to {gap.last} are missed" if gap.count else ""
    return f"the history of {gap.group} began afresh ({before}, now {now}): nobody knows what was missed{known}"


def _left_text(left: Left) -> str:
    why = f": {left.reason}" if left.reason else ""
    code = "" if left.code is None else f" ({left.code}{why})"
    return f"the server took us out of {left.group}, after {left.epoch}:{left.offset}{code}"


def plain_line(item: Item) -> bytes | None:
    """Return a message as it is; None for what is no message."""
    if not isinstance(item, Received):
        return None
    return item.data.encode() if isinstance(item.data, str) else item.data


def json_line(item: Item) -> bytes:
    """Return the JSON object that says `item`, on one line."""
    match item:
        case Received():
            return _message_line(item)
        case Gap():
            gap: dict[str, object] = {"from": item.first, "to": item.last, "count": item.count, "reason": item.reason}
            told = gap if item.epochs is None else {**gap, "epochs": item.epochs}
            return msgspec.json.encode({"group": item.group, "gap": told})
        case Left():
            why = {} if item.code is None else {"code": item.code, "reason": item.reason}
            left = {"epoch": item.epoch, "offset": item.offset, **why}
            return msgspec.json.encode({"group": item.group, "left": left})
        case _:
            return _on_one_line(msgspec.json.encode(presence_object(item)))


def _message_line(item: Received) -> bytes:
    told: dict[str, object] = {"group": item.group, "offset": item.offset}
    if isinstance(item.data, bytes):
        told["b64data"] = item.data
    else:
        told["data"] = msgspec.Raw(item.data.encode()) if item.is_json else item.data
    return _on_one_line(msgspec.json.encode(told))


def _on_one_line(text: bytes) -> bytes:
    """Return JSON otherwise as it was: newlines as such are only ever between its tokens."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")
