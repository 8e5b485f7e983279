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
    """One group's. `arouse` is set while there are watchers, and called when there is something to tell them."""

    __slots__ = ("_changes", "_first", "_last", "_reset", "arouse")

    def __init__(self) -> None:
        self.arouse: Callable[[], None] | None = None
        self._changes: Changes | None = None  # made when there is one: there may be 100,000 groups
        self._reset = False
        self._first = self._last = 0.0

    def __repr__(self) -> str:
        return f"<Notices {self._changes or 'nothing'}{', reset' if self._reset else ''}>"

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return self._reset or self._changes is not None

    @property
    def due(self) -> float:
        """When it is to be told, as it looks now."""
        return min(self._last + QUIET, self._first + LONGEST)

    def add(self, changes: Sequence[Change]) -> None:
        """Take what happened."""
        if self.arouse is not None:
            self._note(self.arouse)
            self._changes = self._changes or Changes()
            self._changes.add(changes)
            if len(self._changes) > MOST:
                self._begin_anew()

    def reset(self) -> None:
        """Nobody knows what happened: whoever watches has to ask."""
        if self.arouse is not None:
            self._note(self.arouse)
            self._begin_anew()

    def take(self, group: str) -> list[Presence]:
        """Return what is to be told, in order."""
        events = [Presence(group, reset=True)] if self._reset else []
        if self._changes is not None:
            events += told(group, self._changes)
        self.forget()
        return events

    def forget(self) -> None:
        """Let everything go."""
        self._changes = None
        self._reset = False

    def _begin_anew(self) -> None:
        self.forget()
        self._reset = True

    def _note(self, arouse: Callable[[], None]) -> None:
        self._last = trio.current_time()
        if not self.waiting:
            self._first = self._last
            arouse()
