"""The memory that all frozen clients together may hold, in bytes.

It holds nothing itself; it only counts.
"""

from __future__ import annotations


class Pins:
    """An account of pinned bytes with a limit (`pinned_bytes`)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def __repr__(self) -> str:
        return f"<Pins {self.used} of {self.limit}>"

    def take(self, weight: int) -> bool:
        """Count `weight` more bytes, if they fit."""
        if self.used + weight > self.limit:
            return False
        self.used += weight
        return True

    def give_back(self, weight: int) -> None:
        """Count `weight` bytes less."""
        self.used -= weight
