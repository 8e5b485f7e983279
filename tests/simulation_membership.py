"""What one membership of a client of the simulation has to begin with, and how far it has been told.

It reads no bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation_truth import Era
from triocast import GapReason, Position
from triocast.core.recovery import OLDEST, Last, Wish

Missing = tuple[int, int, GapReason]


def beginning(wish: Wish | None, at: Position, oldest: int, limit: int) -> tuple[int, Missing | None]:
    """Return after which offset the stream of a client begins that joins at `at`, history holding what there is from
    `oldest` on; and what it has to be told to have missed."""
    held = min(oldest, at.offset + 1) - 1
    limited = at.offset - limit
    if wish is None:
        return at.offset, None
    if isinstance(wish, Last):
        return max(at.offset - wish.count, limited, held), None
    start = max(limited, held)
    if wish == OLDEST:
        return start, (1, start, GapReason.LIMIT) if limited > held else None
    if wish.epoch != at.epoch or wish.offset > at.offset:
        return start, (1, start, GapReason.EPOCH)
    if wish.offset >= start:
        return wish.offset, None
    return start, (wish.offset + 1, start, GapReason.LIMIT if wish.offset < limited else GapReason.LOST)


@dataclass
class Membership:
    """From joining to leaving one group. `at` is what the client has been told up to, by a message or a gap."""

    era: Era
    start: int  # its stream begins after this offset
    until: int  # up to here it is recovered, later messages are live
    due: Missing | None  # what it has to be told first
    wish: Wish | None
    known: bool  # its wish is what it has of an earlier connection
    before: str | None = None  # the epoch that it knew, if it was another
    doubtful: Missing | None = None  # what it may have to be told first, as history was when somebody looked
    told: bool = False  # that it has joined
    at: int = 0
    end: int | None = None  # nothing after this offset may come; None: still a member
    messages: int = 0
    missed: int = 0  # messages that gaps named, because of the policy
    lost: int = 0  # likewise, because nobody had them any more
    own: int = 0  # of who is told nothing: live messages that exclude it, and perhaps were missed beside that

    def __post_init__(self) -> None:
        self.at = self.start if self.due is None else self.due[0] - 1

    def decide(self, missing: Missing) -> None:
        """It is told that this is missing; was that the doubtful beginning?"""
        if self.at == self.start and missing == self.doubtful:
            self.due, self.doubtful = missing, None


@dataclass(frozen=True, slots=True)
class Learned:
    """A client was told something: of which group, and up to where that brings it."""

    membership: Membership
    group: str
    what: str  # message, delivered, gap, joined
    first: int
    position: Position
    before: str | None
    id: str | None
