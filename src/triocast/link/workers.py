"""Warns, once, of a Hypercorn with several workers, which the memory engine does not join.

It never stops anything: one worker may be all that somebody needs, and another engine may join them.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("triocast.link")

WORKERS = (
    "Hypercorn runs %d workers, and the memory engine does not join them: a message published in one reaches only "
    "its own clients; run one worker (hypercorn -w 1)"
)

_warned: set[int] = set()


def warn_of_workers(workers: int) -> None:
    """Warn that `workers` do not hear of each other, unless there is one or it was said before."""
    if workers > 1 and not _warned:
        _warned.add(workers)
        logger.warning(WORKERS, workers)
