"""A wire format: what a client is given for a message or a gap, as a payload and as a whole WebSocket frame.

It knows no connection and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triocast.core.log import Entry
from triocast.core.message import Shared
from triocast.core.presence import Member, Moved, Reason
from triocast.core.wire.websocket import data_frame

Payload = str | bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The beginning of a group's stream on one connection, `client`: what follows comes after `offset`."""

    group: str
    epoch: str
    offset: int
    policy: str
    client: str


@dataclass(frozen=True, slots=True)
class Left:
    """The end of a group's stream on one connection that goes on: what came last was `offset`."""

    group: str
    epoch: str
    offset: int


@dataclass(slots=True, eq=False)
class Presence(Shared):
    """What has changed of who is in a group; with `reset`, whoever is told knows nothing of that any more, and asks.

    A connection is in one of the three only. It has no position and no history.
    """

    group: str
    joined: Sequence[Member] = ()
    left: Sequence[tuple[str, Reason]] = ()
    moved: Sequence[Moved] = ()
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """In the place of a message that excludes this client's connection: `offset` counts as given to it."""

    group: str
    epoch: str
    offset: int


Told = Entry | Joined | Left | Delivered | Presence
"""What a client can be told of a group."""


class Format:
    """One way to write what clients are told. `encode` gives the payload, None for what the format cannot say.

    `greets` says that each group's stream begins with `Joined`. Formats are compared by identity: there is one object
    of each, and all its subscribers share its encodings.
    """

    def __init__(self, name: str, encode: Callable[[Told], Payload | None], *, greets: bool = False) -> None:
        self.name = name
        self.greets = greets
        self.encode = encode

    def __repr__(self) -> str:
        return f"<Format {self.name}>"

    def payload(self, told: Told) -> Payload | None:
        """Return the payload, `str` for a text frame and `bytes` for a binary one."""
        return told.encoded(self.encode) if isinstance(told, Shared) else self.encode(told)

    def frame(self, told: Told) -> bytes:
        """Return the whole frame a server sends, empty for what the format cannot say."""
        return told.encoded(self._frame) if isinstance(told, Shared) else self._frame(told)

    def _frame(self, told: Told) -> bytes:
        # From the encoder, not from `payload`: whoever wants frames should not keep payloads as well.
        payload = self.encode(told)
        return b"" if payload is None else data_frame(payload)
