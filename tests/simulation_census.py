"""How many members the groups of the simulation have, as far as that can be known while clients come and go.

It asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Window:
    """How many members a group had at least and at most while somebody looked."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high


class Census:
    """How many members one group has: surely (`low`), and with those who are on their way in or out (`high`)."""

    def __init__(self) -> None:
        self.low = self.high = 0
        self._windows: dict[Window, None] = {}

    def change(self, low: int, high: int) -> None:
        self.low += low
        self.high += high
        for window in self._windows:
            # Who goes may have gone a moment before it is noted, when somebody who has come since was not there yet.
            window.low += min(low, 0)
            window.high += max(high, 0)

    @contextmanager
    def watch(self) -> Iterator[Window]:
        window = Window(self.low, self.high)
        self._windows[window] = None
        try:
            yield window
        finally:
            del self._windows[window]
