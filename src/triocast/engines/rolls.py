"""Who is in which group, for an engine of one process.

It runs nothing: whoever has it lets the time pass with `expire`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triocast.core.presence import Change, Member, Members, Reason, Roll
from triocast.settings import Settings

Told = Callable[[str, Sequence[Change], bool, bool], None]
"""Takes a group and what changed there, and whether that made it occupied, or vacated."""


class Rolls:
    """The rolls of all groups with members whose settings want them; changes go to `told`."""

    def __init__(self, settings: Settings, told: Told) -> None:
        self._settings = settings
        self._told = told
        self._rolls: dict[str, Roll] = {}
        self._leaving: dict[str, None] = {}  # groups with members whose leave is still to be told

    def __repr__(self) -> str:
        return f"<Rolls of {len(self._rolls)} groups, {len(self._leaving)} with members that are leaving>"

    def enter(self, group: str, member: Member) -> None:
        """Take a member in; harmless if it is one."""
        if not self._settings.for_group(group).presence:
            return
        roll = self._rolls.setdefault(group, Roll())
        occupied = not len(roll)
        change = roll.enter(member)
        if change is not None:
            self._told(group, [change], occupied, False)

    def depart(self, group: str, client: str, reason: Reason, now: float) -> None:
        """Strike a member off, once its grace is over; at once if it was removed. Harmless if it is none."""
        roll = self._rolls.get(group)
        if roll is None:
            return
        grace = self._settings.for_group(group).presence_grace
        due = now + grace if grace and reason is Reason.LEFT else None
        change = roll.depart(client, reason, due)
        if change is not None:
            self._tell_leaves(group, roll, [change])
        elif roll.due is not None:
            self._leaving[group] = None

    def expire(self, now: float) -> None:
        """Strike those off whose grace is over."""
        for group in list(self._leaving):
            roll = self._rolls[group]
            gone = roll.expire(now)
            if roll.due is None:
                del self._leaving[group]
            if gone:
                self._tell_leaves(group, roll, gone)

    def end(self) -> None:
        """Strike everybody off: the process ends."""
        for group, roll in list(self._rolls.items()):
            self._tell_leaves(group, roll, roll.end())

    def page(self, group: str, after: str | None, limit: int) -> Members:
        """Return the first members, at most `limit`, after the connection `after`."""
        return self._rolls.get(group, _NOBODY).page(after, limit)

    def _tell_leaves(self, group: str, roll: Roll, changes: Sequence[Change]) -> None:
        if not len(roll):
            del self._rolls[group]
            self._leaving.pop(group, None)
        self._told(group, changes, False, not len(roll))


_NOBODY = Roll()
