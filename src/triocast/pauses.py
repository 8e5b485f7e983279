"""How long somebody waits who asks again, as long as the engine can't be reached.

It asks nobody.
"""

from __future__ import annotations

import random

FIRST_PAUSE = 0.25  # seconds until an engine that could not be reached is asked again
LONGEST_PAUSE = 4.0  # seconds between two such questions: as many may wait as there are clients, or groups


def drawn(pause: float) -> float:
    """Return how long to wait this time: those who wait for an engine together should not all ask in the moment that
    it is back."""
    return random.uniform(pause / 2, pause)  # noqa: S311 - it spreads them, nothing more


def longer(pause: float) -> float:
    """Return the pause after this one."""
    return min(LONGEST_PAUSE, pause * 2)
