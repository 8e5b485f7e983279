"""Brings one client what it missed: pages of the engine's history, up to where the group was when the client joined.

What is published meanwhile waits in the group's log, not here.
"""

from __future__ import annotations

from triocast.core.log import Entry
from triocast.core.message import Gap, GapReason, Position
from triocast.core.recovery import Beginning, Wish, begin, correct
from triocast.engines import Engine

PAGE = 256  # messages asked for at once


class Recovery:
    """What is left of one client's missed messages of one group. Made by `plan_recovery`."""

    __slots__ = ("_after", "_engine", "_gap", "_group", "_until")

    def __init__(self, engine: Engine, group: str, beginning: Beginning, at: Position) -> None:
        self._engine = engine
        self._group = group
        self._gap = beginning.gap  # still to be told
        self._after = beginning.after
        self._until = at

    def __repr__(self) -> str:
        return f"<Recovery of {self._group!r}, {self._after} to {self._until.offset}>"

    @property
    def after(self) -> int:
        """The offset up to which everything was given, or named by a gap."""
        return self._after

    @property
    def done(self) -> bool:
        """Whether the log has all that comes next."""
        return self._gap is None and self._after >= self._until.offset

    async def take(self, budget: int) -> list[Entry]:
        """Return what comes next, at most `budget` bytes or one message; what is gone by now is named by a gap.

        Raises `EngineError`; cancelled, nothing was taken.
        """
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return [gap]
        page = await self._engine.read(self._group, self._after, min(PAGE, self._until.offset - self._after))
        same = page.position.epoch == self._until.epoch
        entries: list[Entry] = []
        for message in page.messages if same else ():
            if message.offset > self._until.offset:
                break
            if entries and budget < message.weight:
                return entries
            self._pass_until(message.offset - 1, entries)
            entries.append(message)
            self._after = message.offset
            budget -= message.weight
        if not entries:
            self._pass_until(self._until.offset, entries)
        return entries

    def _pass_until(self, last: int, entries: list[Entry]) -> None:
        if last > self._after:
            entries.append(Gap(self._group, self._until.epoch, self._after + 1, last, GapReason.LOST))
            self._after = last


async def plan_recovery(engine: Engine, group: str, wish: Wish, at: Position, limit: int) -> Recovery:
    """Find out where a client begins that has joined `at` the group's newest position and wants what it missed.

    Raises `EngineError`.
    """
    beginning = begin(group, wish, at, limit)
    if beginning.after < at.offset:
        page = await engine.read(group, beginning.after, 1)
        kept = page.messages if page.position.epoch == at.epoch else ()
        oldest = min(kept[0].offset, at.offset + 1) if kept else at.offset + 1
        beginning = correct(beginning, group, wish, at, oldest)
    return Recovery(engine, group, beginning, at)
