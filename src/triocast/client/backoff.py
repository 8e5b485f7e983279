"""How long to wait before connecting again, and after which closes not to.

Pure: randomness and durations come in as arguments, nothing here sleeps or looks at a clock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from triocast.errors import CLOSES, ComeBack

_OURS = {close.code: close.come_back for close in CLOSES}
# Ranges in which the close codes of the Centrifuge protocol say not to come back, whoever chose the code.
_FINAL = (range(3500, 4000), range(4500, 5000))


def may_come_back(code: int) -> bool:
    """Whether a client that was closed with `code` may connect again; what is not known to be final may."""
    if code in _OURS:
        return _OURS[code] is not ComeBack.NO
    return not any(code in final for final in _FINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffSettings:
    """Bounds of the wait, in seconds.

    It is drawn from `floor` to a ceiling that begins at `first`, doubles with every failure up to `cap`, and begins
    anew after a connection that lasted `steady`.
    """

    floor: float = 0.1  # a server that closes at once must not be hammered
    first: float = 1.0  # spreads the clients of a restarted server over a second
    cap: float = 30.0  # after a long outage, nobody waits longer than this for the server that is back
    steady: float = 10.0  # a connection that breaks sooner was not a success


class Backoff:
    """Exponential backoff, fully jittered: clients that lost their server together do not return together."""

    def __init__(self, settings: BackoffSettings, source: random.Random) -> None:
        self._settings = settings
        self._random = source
        self._ceiling = settings.first

    def after(self, lasted: float) -> float:
        """Return the seconds to wait after a connection of `lasted` seconds (0 if there was none)."""
        settings = self._settings
        if lasted >= settings.steady:
            self._ceiling = settings.first
        delay = self._random.uniform(settings.floor, max(settings.floor, self._ceiling))
        self._ceiling = min(settings.cap, self._ceiling * 2)
        return delay
