"""Where the stream of a client begins that has been here before: plain decisions, from what it has and what there is.

It reads nothing; whoever asks says what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from triocast.core.message import Gap, GapReason, Position

OLDEST = Position("", 0)
"""A position before everything, whatever the epoch: what a client has that has nothing."""


@dataclass(frozen=True, slots=True)
class Last:
    """A wish for the newest `count` messages, as far as they are kept; nothing is promised, so nothing is missing."""

    count: int


@dataclass(frozen=True, slots=True)
class Newest:
    """A wish for the newest message of each key; what they supersede is named, but nobody has missed it."""


Wish = Position | Last | Newest
"""What a client wants before the live messages: what follows a position, the last few, or the last values."""


class Join(Enum):
    """What a group's clients begin with that have no wish."""

    LIVE = "live"  # nothing: they are given what is published from then on
    LAST = "last"  # the newest message, of each key where messages have keys


def wish_of(since: Position | None, last: int | None) -> Wish | None:
    """Return the wish that is meant by one of the two, or None if there is neither. Raises `ValueError` for both."""
    if last is None:
        return since
    if since is not None:
        raise ValueError("give since or last, not both: one says where to go on, the other where to begin")
    if last < 1:
        raise ValueError(f"last is {last}: it is how many messages to begin with, at least 1")
    return Last(last)


def wishes_of(groups: Sequence[str], since: Mapping[str, Position], last: int | None) -> dict[str, Wish | None]:
    """Return the wish for each group: those that are not in `since` begin with their `last` messages."""
    return {group: since[group] if group in since else wish_of(None, last) for group in groups}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A stream that gives what follows the offset `after` up to where the group was when the client joined.

    `gap` is told first: what the client asked for and can't have, up to `after`; unless it is the range of the last
    values that the client is given.
    """

    after: int
    gap: Gap | None = None


def begin(group: str, wish: Wish, at: Position, limit: int) -> Beginning:
    """Return where to begin for a client that joins the group `at` its newest position.

    At most `limit` messages are recovered. A position of another epoch, or one that the group has not reached, says
    nothing about what the client has: it is given all that is kept, after a gap that names both epochs.
    """
    if isinstance(wish, Newest):
        return Beginning(at.offset, Gap(group, at.epoch, 1, at.offset, GapReason.SUPERSEDED))
    if isinstance(wish, Last):
        return Beginning(max(0, at.offset - min(wish.count, limit)))
    latest = max(0, at.offset - limit)
    if wish.epoch and (wish.epoch != at.epoch or wish.offset > at.offset):
        return Beginning(latest, Gap(group, at.epoch, 1, latest, GapReason.EPOCH, before=wish.epoch))
    if wish.offset < latest:
        return Beginning(latest, Gap(group, at.epoch, wish.offset + 1, latest, GapReason.LIMIT))
    return Beginning(wish.offset)


def correct(beginning: Beginning, group: str, wish: Wish, at: Position, oldest: int) -> Beginning:
    """Return the beginning once it is known that `oldest` is the first offset kept of those after it.

    `at.offset + 1` if none is. For who asks for the oldest it may be that of `beginning.after`: older ones are kept.
    """
    if wish == OLDEST and oldest > beginning.after:
        return Beginning(oldest - 1)  # all that is kept is given: no limit kept anything from it
    if oldest <= beginning.after + 1:
        return beginning
    if isinstance(wish, Last):
        return Beginning(oldest - 1)
    if beginning.gap is not None:
        return Beginning(oldest - 1, replace(beginning.gap, last=oldest - 1))
    return Beginning(oldest - 1, Gap(group, at.epoch, beginning.after + 1, oldest - 1, GapReason.LOST))
