"""Brings one client what it missed: pages of the engine's history, up to where the group was when the client joined.

Where a group has last values, they are given in the place of what is gone from history. What is published meanwhile
waits in the group's log, not here.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from triocast.core.log import NO_LIMIT, Entry
from triocast.core.message import Gap, GapReason, Message, Position
from triocast.core.recovery import OLDEST, Beginning, Newest, Wish, begin, correct
from triocast.engines import Engine, Page

PAGE = 256  # messages asked for at once


class Recovery:
    """What is left of one client's missed messages of one group. Made by `plan_recovery`.

    The stream begins after the offset `start`. Where it is not `counted`, last values come first, and who counts
    messages does not learn their offsets. What belongs `before` it and is lost is told first.
    """

    __slots__ = ("_after", "_before", "_engine", "_filled", "_gap", "_group", "_until", "_valued", "counted", "start")

    def __init__(
        self,
        engine: Engine,
        group: str,
        beginning: Beginning,
        at: Position,
        first: Message | None = None,
        *,
        valued: bool = False,
    ) -> None:
        """Make it; with the `first` of the last values that come in the place of the beginning's gap, if any do."""
        self._before: Gap | None = None
        self._engine = engine
        self._group = group
        self._gap = beginning.gap  # what of it is still to be told
        self._after = beginning.after
        self._until = at
        self._filled = first is not None  # whether the gap is one that last values may fill
        self._valued = valued
        self.start = beginning.after if first is None else first.offset - 1
        self.counted = first is None or first.offset == beginning.after

    def __repr__(self) -> str:
        return f"<Recovery of {self._group!r}, {self._after} to {self._until.offset}>"

    @property
    def epoch(self) -> str:
        """The epoch of what it gives."""
        return self._until.epoch

    @property
    def given(self) -> int:
        """The offset up to which everything was given, or named by a gap."""
        return self._after if self._gap is None else self._gap.first - 1

    @property
    def done(self) -> bool:
        """Whether the log has all that comes next."""
        return self._before is None and self._gap is None and self._after >= self._until.offset

    def behind(self, gap: Gap | None) -> Recovery:
        """Return the same, still untouched, for one more client, which is told of `gap` first."""
        twin = copy(self)
        twin._before = gap  # noqa: SLF001 - it is one of us
        return twin

    async def take(self, budget: int, limit: int = NO_LIMIT) -> list[Entry]:
        """Return what comes next, at most `budget` bytes or one message, and `limit` messages.

        What is gone by now is named by a gap. Raises `EngineError`; cancelled, nothing was taken.
        """
        if self._before is not None:
            before, self._before = self._before, None
            return [before]
        if self._gap is None:
            return await self._take_history(budget, limit)
        if self._filled:
            return await self._take_values(self._gap, budget, limit)
        gap, self._gap = self._gap, None
        return [gap]

    async def _take_values(self, gap: Gap, budget: int, limit: int) -> list[Entry]:
        """Take from the range of `gap` its last values, each after the part of the gap that is before it."""
        page = await self._engine.last_values(self._group, gap.first - 1, PAGE)
        values = [value for value in self._of_this_epoch(page) if value.offset <= gap.last]
        entries: list[Entry] = []
        for value in values[:limit]:
            if entries and budget < value.weight:
                break
            entries += _named(gap, value.offset - 1)
            entries.append(value)
            gap = _rest(gap, value.offset)
            budget -= value.weight
        else:
            if len(values) < PAGE and len(values) <= limit:
                entries += _named(gap, gap.last)
                gap = _rest(gap, gap.last)
        self._gap = gap if gap.count else None
        return entries

    async def _take_history(self, budget: int, limit: int) -> list[Entry]:
        count = min(PAGE, limit, self._until.offset - self._after)
        page = await self._engine.read(self._group, self._after, count)
        entries: list[Entry] = []
        for message in self._of_this_epoch(page):
            if message.offset > self._until.offset:
                break
            if entries and budget < message.weight:
                return entries
            if message.offset > self._after + 1:
                if self._valued:
                    return entries or await self._make_good(message.offset - 1, budget, limit)
                entries.append(self._lose(message.offset - 1))
            entries.append(message)
            self._after = message.offset
            budget -= message.weight
        if entries:
            return entries
        until = self._until.offset
        return await self._make_good(until, budget, limit) if self._valued else [self._lose(until)]

    def _lose(self, last: int) -> Gap:
        """Name what history had when this was planned, and has no longer."""
        gap = Gap(self._group, self._until.epoch, self._after + 1, last, GapReason.LOST)
        self._after = last
        return gap

    async def _make_good(self, last: int, budget: int, limit: int) -> list[Entry]:
        """Take, of what history has no longer, the last values."""
        self._gap, self._filled = self._lose(last), True
        return await self._take_values(self._gap, budget, limit)

    def _of_this_epoch(self, page: Page) -> tuple[Message, ...]:
        return page.messages if page.position.epoch == self._until.epoch else ()


async def plan_recovery(
    engine: Engine, group: str, wish: Wish, at: Position, limit: int, *, valued: bool = False
) -> Recovery:
    """Find out where a client begins that has joined `at` the group's newest position and wants what it missed.

    A `valued` group has last values. Raises `EngineError`.
    """
    beginning = begin(group, wish, at, limit)
    if beginning.after < at.offset:
        limited = wish == OLDEST and beginning.gap is not None
        page = await engine.read(group, beginning.after - limited, 1)
        kept = page.messages if page.position.epoch == at.epoch else ()
        oldest = min(kept[0].offset, at.offset + 1) if kept else at.offset + 1
        beginning = correct(beginning, group, wish, at, oldest)
    if beginning.gap is None or not valued:
        return Recovery(engine, group, beginning, at, valued=valued)
    page = await engine.last_values(group, beginning.gap.first - 1, 1)
    kept = page.messages if page.position.epoch == at.epoch else ()
    first = kept[0] if kept and kept[0].offset <= beginning.after else None
    return Recovery(engine, group, _begun(beginning, wish, first), at, first, valued=valued)


def _begun(beginning: Beginning, wish: Wish, first: Message | None) -> Beginning:
    """Return the beginning without what was never promised: whatever came before the first of the last values."""
    if not isinstance(wish, Newest) or beginning.gap is None:
        return beginning
    return replace(beginning, gap=None if first is None else replace(beginning.gap, first=first.offset))


def _named(gap: Gap, last: int) -> list[Gap]:
    """Return the part of a gap up to the offset `last`, if there is any; a new epoch is always to be told."""
    part = replace(gap, last=last)
    return [part] if part.count > 0 or part.reason is GapReason.EPOCH else []


def _rest(gap: Gap, last: int) -> Gap:
    """Return what is left of a gap behind the offset `last`; that the epoch is new, its first part has said."""
    reason = GapReason.LOST if gap.reason is GapReason.EPOCH else gap.reason
    return replace(gap, first=last + 1, reason=reason, before=None)
