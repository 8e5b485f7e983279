"""Sets Python's garbage collector up for a server of many connections; only `triocast serve` does, never the library.

It must not be needed: what ends here leaves no cycles behind, and a test sees to that.
"""

from __future__ import annotations

import gc

# New containers until the young are looked at. Every open connection keeps some hundreds, so that with Python's own 700
# most of what accepting one costs went into looking at those before it, in vain.
YOUNG = 2_500
# Every other run looks at those that the one before has left, and at no more: 1 ms. After ten it were 50,000, and a
# thousand clients that come back at once would stop the server five times for 10 to 15 ms.
MIDDLE = 0
# Such runs until all there is is looked at: with 5,000 connections that stopped the server for 0.6 s.
ALL = 10_000


def tune_collector() -> None:
    """Leave alone for good what exists now, and look at all the rest far less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, ALL)
