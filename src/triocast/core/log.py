"""A group's log: the newest messages within bounds of count, weight and age, read by cursor.

It never awaits, waits for nobody and knows no subscriber.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from triocast.core.message import Gap, GapReason, Message, Position

ENCODINGS_KEPT = 256  # a client further behind is slow anyway; encoding again costs less than keeping two copies of all
NO_LIMIT = sys.maxsize  # for whoever takes as many messages as there are

Entry = Message | Gap


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a log holds: `count` messages, `weight` bytes, and messages no older than `age` seconds (None: any).

    The newest message is always held, whatever it weighs, unless `count` is 0.
    """

    count: int
    weight: int
    age: float | None = None


class GroupLog:
    """A window on one epoch of a group: entries in offset order without holes, a gap standing for what was lost.

    `top` is the newest offset known, `bottom` the oldest entry's first offset (`top + 1` when nothing is held).
    """

    __slots__ = ("_entries", "_head", "_lasts", "_newest", "_sums", "_times", "bottom", "bounds", "epoch", "top")

    def __init__(self, start: Position, bounds: Bounds, *, keyed: bool = False) -> None:
        """Make an empty log; a `keyed` one knows which messages are the newest of their key."""
        self.epoch = start.epoch
        self.top = start.offset
        self.bottom = start.offset + 1
        self.bounds = bounds
        # Parallel lists; what lies before _head is gone and is cut off now and then, so that trimming is O(1).
        self._entries: list[Entry] = []
        self._lasts: list[int] = []
        self._sums: list[int] = []  # weight of all entries ever appended up to and including this one
        self._times: list[float] = []
        self._head = 0
        self._newest: dict[str | None, int] | None = {} if keyed else None

    def __len__(self) -> int:
        return len(self._entries) - self._head

    def __repr__(self) -> str:
        return f"<GroupLog {self.epoch}:{self.bottom}..{self.top} {len(self)} entries, weight {self.weight}>"

    @property
    def position(self) -> Position:
        """The position of the newest message, or where the log started."""
        return Position(self.epoch, self.top)

    @property
    def weight(self) -> int:
        """What the entries held weigh together, in bytes."""
        return self._sum_before(len(self._entries)) - self._sum_before(self._head)

    def append(self, entry: Entry, now: float) -> None:
        """Add the entry that follows `top` and let go what no longer fits.

        Raises `ValueError` for an entry that does not follow: holes are the caller's to name.
        """
        first, last = first_of(entry), last_of(entry)
        if first != self.top + 1 or entry.epoch != self.epoch:
            raise ValueError(f"{entry.epoch}:{first} does not follow {self.epoch}:{self.top}")
        self._entries.append(entry)
        self._lasts.append(last)
        self._sums.append(self._sum_before(len(self._sums)) + entry.weight)
        self._times.append(now)
        if self._newest is not None and isinstance(entry, Message):
            self._newest[entry.key] = entry.offset
        self.top = last
        self._trim()
        self.expire(now)
        self._forget_old_encodings()

    def read(self, cursor: int, budget: int) -> list[Entry]:
        """Return what follows the offset `cursor`, as far as it is held: entries of at most `budget` bytes together,
        and at least one if there is one."""
        index = bisect_right(self._lasts, cursor, self._head)
        limit = self._sum_before(index) + budget
        end = bisect_right(self._sums, limit, index)
        return self._entries[index : max(end, index + 1)]

    def page(self, cursor: int, limit: int) -> list[Message]:
        """Return at most `limit` messages that follow the offset `cursor`, oldest first."""
        index = bisect_right(self._lasts, cursor, self._head)
        return [entry for entry in self._entries[index : index + limit] if isinstance(entry, Message)]

    def page_back(self, cursor: int | None, limit: int) -> list[Message]:
        """Return at most `limit` messages that come before the offset `cursor` (None: before what is next), newest
        first."""
        end = len(self._lasts) if cursor is None else bisect_left(self._lasts, cursor, self._head)
        begin = max(self._head, end - limit)
        return [entry for entry in reversed(self._entries[begin:end]) if isinstance(entry, Message)]

    def after(self, cursor: int) -> list[Entry]:
        """Return all that is held after the offset `cursor`."""
        return self._entries[bisect_right(self._lasts, cursor, self._head) :]

    def is_newest(self, message: Message) -> bool:
        """Whether no newer message of the same key is held (messages without a key are one key); for a keyed log."""
        return self._newest is not None and self._newest.get(message.key) == message.offset

    def weight_after(self, cursor: int) -> int:
        """Return what the entries held after the offset `cursor` weigh: how many bytes a subscriber is behind."""
        index = bisect_right(self._lasts, cursor, self._head)
        return self._sum_before(len(self._entries)) - self._sum_before(index)

    def expire(self, now: float) -> None:
        """Let go what is older than the bounds allow at the time `now`."""
        age = self.bounds.age
        if age is not None:
            while self._head < len(self._times) and self._times[self._head] <= now - age:
                self._drop()

    def clear(self) -> None:
        """Let go everything but the position."""
        while len(self):
            self._drop()

    def _trim(self) -> None:
        kept = min(1, self.bounds.count)
        while len(self) > kept and (len(self) > self.bounds.count or self.weight > self.bounds.weight):
            self._drop()

    def _drop(self) -> None:
        entry = self._entries[self._head]
        if self._newest is not None and isinstance(entry, Message) and self.is_newest(entry):
            del self._newest[entry.key]
        self.bottom = self._lasts[self._head] + 1
        self._entries[self._head] = _DROPPED  # the message is free now, not when the lists are cut
        self._head += 1
        if self._head > 64 and self._head * 2 > len(self._entries):
            self._cut()

    def _cut(self) -> None:
        gone = self._sum_before(self._head)
        del self._entries[: self._head]
        del self._lasts[: self._head]
        del self._times[: self._head]
        self._sums = [total - gone for total in self._sums[self._head :]]
        self._head = 0

    def _sum_before(self, index: int) -> int:
        return self._sums[index - 1] if index else 0

    def _forget_old_encodings(self) -> None:
        index = len(self._entries) - 1 - ENCODINGS_KEPT
        if index >= self._head:
            entry = self._entries[index]
            if isinstance(entry, Message):
                entry.forget_encodings()


def first_of(entry: Entry) -> int:
    """Return the offset of a message, or the first one that a gap names."""
    return entry.offset if isinstance(entry, Message) else entry.first


def last_of(entry: Entry) -> int:
    """Return the offset of a message, or the last one that a gap names."""
    return entry.offset if isinstance(entry, Message) else entry.last


_DROPPED: Entry = Gap("", "", first=1, last=0, reason=GapReason.LOST)  # stands where an entry was, holding nothing
