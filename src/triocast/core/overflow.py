"""What a group does about a subscriber that lags by more than it allows: a pure decision from cursor and log.

Nothing is done here; the subscription acts on the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from triocast.core.log import GroupLog
from triocast.core.message import Gap, GapReason


class Policy(Enum):
    """The overflow policies a group can have."""

    DROP_OLDEST = "drop_oldest"  # jump to the oldest message still allowed; a gap names what was missed
    DISCONNECT = "disconnect"  # close the client with a code that tells it to come back


@dataclass(frozen=True, slots=True)
class Skip:
    """Go on after the gap, and tell the subscriber of it."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class Evict:
    """End the subscriber's connection; it was this many messages behind."""

    behind: int


def judge(policy: Policy, group: str, cursor: int, log: GroupLog) -> Skip | Evict | None:
    """Decide about a subscriber that was given everything up to the offset `cursor`; None lets it read on.

    A group's log holds exactly what a subscriber may lag by, so lagging too far and falling off its end are one.
    """
    if cursor + 1 >= log.bottom:
        return None
    match policy:
        case Policy.DROP_OLDEST:
            return Skip(Gap(group, log.epoch, cursor + 1, log.bottom - 1, GapReason.SLOW))
        case Policy.DISCONNECT:
            return Evict(log.top - cursor)
