"""How long a server takes to tell its clients to go: a decision, from settings and how many they are.

It tells nobody.
"""

from __future__ import annotations

from triocast.settings import Settings

# Clients a second that others can take without anybody noticing: a handshake costs about a millisecond.
EASY_RATE = 200
# Of the grace time; the other half is for those told last to say goodbye, and for slow ones to take what is under way.
HALF = 0.5


def spread_of(settings: Settings, clients: int, *, alone: bool) -> float:
    """Return over how many seconds `clients` are told to go; `alone` says that no other process can take them.

    Then to wait would only make the pause longer until the same server is back.
    """
    if settings.shutdown_spread is not None:
        return settings.shutdown_spread
    return 0.0 if alone else min(settings.grace * HALF, clients / EASY_RATE)
