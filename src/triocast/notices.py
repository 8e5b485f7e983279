"""What a group's watchers are still to be told of who came and went, gathered so that many at once are one event.

It tells nobody, and keeps nothing while nobody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from triocast.core.presence import Change, Changes
from triocast.core.presence_log import told
from triocast.core.wire import Presence

QUIET = 0.05  # seconds without a change after which it is told: what belongs together is a few milliseconds apart
LONGEST = 1.0  # seconds from the first change until it is told in any case
MOST = 20_000  # changes gathered; with more, watchers are told to ask, which costs less than telling them all


class Notices:
    """One group's. `watched` is set by who has watchers; `arouse` is called when there is something to tell."""

    __slots__ = ("_arouse", "_changes", "_first", "_last", "_reset", "watched")

    def __init__(self, arouse: Callable[[], None] | None = None) -> None:
        self.watched = False
        self._arouse = arouse
        self._changes = Changes()
        self._reset = False
        self._first = self._last = 0.0

    def __repr__(self) -> str:
        return f"<Notices {self._changes!r}{', reset' if self._reset else ''}>"

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return self._reset or len(self._changes) > 0

    @property
    def due(self) -> float:
        """When it is to be told, as it looks now."""
        return min(self._last + QUIET, self._first + LONGEST)

    def add(self, changes: Sequence[Change]) -> None:
        """Take what happened."""
        if self.watched:
            self._note()
            self._changes.add(changes)
            if len(self._changes) > MOST:
                self._begin_anew()

    def reset(self) -> None:
        """Nobody knows what happened: whoever watches has to ask."""
        if self.watched:
            self._note()
            self._begin_anew()

    def take(self, group: str) -> list[Presence]:
        """Return what is to be told, in order."""
        events = [Presence(group, reset=True)] if self._reset else []
        events += told(group, self._changes)
        self.forget()
        return events

    def forget(self) -> None:
        """Let everything go."""
        self._changes = Changes()
        self._reset = False

    def _begin_anew(self) -> None:
        self.forget()
        self._reset = True

    def _note(self) -> None:
        self._last = trio.current_time()
        if not self.waiting:
            self._first = self._last
            if self._arouse is not None:
                self._arouse()
