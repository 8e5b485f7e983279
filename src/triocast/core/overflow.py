"""What a group does about a subscriber that lags by more than it allows: pure decisions from cursor and log.

Nothing is done here; the subscription acts on the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from triocast.core.log import Entry, GroupLog, last_of
from triocast.core.message import Gap, GapReason, Message


class Policy(Enum):
    """The overflow policies a group can have."""

    DROP_OLDEST = "drop_oldest"  # jump to the oldest message still allowed; a gap names what was missed
    DROP_NEWEST = "drop_newest"  # keep what was coming, miss what comes after; one gap once that is drained
    LATEST = "latest"  # the newest message, of each key where messages have keys; gaps name what they supersede
    DISCONNECT = "disconnect"  # close the client with a code that tells it to come back
    BLOCK = "block"  # publishers wait until nobody lags that far, and are refused after block_timeout


@dataclass(frozen=True, slots=True)
class Skip:
    """Go on after the gap, and tell the subscriber of it."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class Conflate:
    """Give only what is the newest of its key, until the subscriber has caught up."""


@dataclass(frozen=True, slots=True)
class Evict:
    """End the subscriber's connection; it was this many messages behind."""

    behind: int


Verdict = Skip | Conflate | Evict | None


def judge(policy: Policy, group: str, cursor: int, log: GroupLog) -> Verdict:
    """Decide about a subscriber that was given everything up to the offset `cursor`; None lets it read on.

    A group's log holds exactly what a subscriber may lag by, so lagging too far and falling off its end are one. With
    `drop_newest` and `block` that is prevented before it happens; where it happens all the same (several publishers at
    once) the gap says so.
    """
    if cursor + 1 >= log.bottom:
        return None
    match policy:
        case Policy.DROP_OLDEST | Policy.DROP_NEWEST | Policy.BLOCK:
            return Skip(Gap(group, log.epoch, cursor + 1, log.bottom - 1, GapReason.SLOW))
        case Policy.LATEST:
            return Conflate()
        case Policy.DISCONNECT:
            return Evict(log.top - cursor)


def would_fall_off(cursor: int, log: GroupLog, entry: Entry) -> bool:
    """Whether appending `entry` would take from the log what a subscriber at `cursor` has not been given."""
    full = log.top + 1 - cursor > log.bounds.count or log.weight_after(cursor) + entry.weight > log.bounds.weight
    return full and cursor < log.top


def conflate(group: str, cursor: int, log: GroupLog, budget: int) -> list[Entry]:
    """Return what a conflated subscriber gets next: the newest message of each key, in offset order, at most `budget`
    bytes or one message, a gap in the place of those they supersede. The last entry's offset is the new cursor."""
    entries: list[Entry] = []
    if cursor + 1 < log.bottom:
        entries.append(Gap(group, log.epoch, cursor + 1, log.bottom - 1, GapReason.SLOW))
        cursor = log.bottom - 1
    weight = 0
    for entry in log.after(cursor):
        if isinstance(entry, Message) and not log.is_newest(entry):
            continue
        if weight and weight + entry.weight > budget:
            break
        weight += entry.weight
        first = entry.offset if isinstance(entry, Message) else entry.first
        if first > cursor + 1:
            entries.append(Gap(group, log.epoch, cursor + 1, first - 1, GapReason.SUPERSEDED))
        entries.append(entry)
        cursor = last_of(entry)
    return entries
