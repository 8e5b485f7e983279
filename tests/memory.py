"""How much memory something takes, for tests that bound it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

FLAT = 3 * 1024 * 1024
"""Bytes that a server may hold for one client, whatever it sends: some reads of 64 KiB, and this process's noise."""


@contextmanager
def flat_memory(limit: int = FLAT) -> Iterator[None]:
    """Fail if what is allocated inside ever grows by more than `limit` bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < limit
