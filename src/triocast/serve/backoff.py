"""How long to wait before a process that ended is started anew: a decision from how long it lived.

It starts nothing, and reads no clock.
"""

from __future__ import annotations

FIRST = 0.5  # seconds before the second attempt; the first is made at once, since the others have its clients to bear
LONGEST = 30.0
STEADY = 3.0  # seconds a process has to live for its end to count as an accident, and not as a failed attempt


class Backoff:
    """The pause before the next start, which doubles while starts fail and is forgotten once one has not."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived: float) -> float:
        """Return the seconds to wait, for a process that lived for `lived` seconds."""
        if lived >= STEADY:
            self._next = 0.0
        pause = self._next
        self._next = min(max(FIRST, 2 * pause), LONGEST)
        return pause
