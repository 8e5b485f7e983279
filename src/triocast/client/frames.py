"""What frames mean to a listener: messages, gaps, beginnings and ends of streams, news of members.

Pure facts: how a format says them is for its reader to know.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from triocast.client.presence import Presence, PresenceReset


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
        """What was sent: JSON decoded, everything else as it is.

        Raises `RecursionError` for the deepest of JSON, `msgspec.DecodeError` for numbers beyond a float's (1e999).
        """
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

    `code` and `reason` are what whoever did it said, None and empty if nothing. Should it be taken in again, what comes
    then begins there: of what was published meanwhile nothing is said.
    """

    group: str
    epoch: str
    offset: int
    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that is not for this listener was published here: its `offset` counts as delivered."""

    group: str
    epoch: str
    offset: int


Item = Received | Gap | Left | Presence | PresenceReset
Frame = Item | Joined | Delivered | None
