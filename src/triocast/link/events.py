"""What our protocols tell the link beyond what Hypercorn's tell it; nothing here acts."""

from __future__ import annotations

from dataclasses import dataclass

from hypercorn.events import Event


@dataclass(frozen=True)
class RequestBegun(Event):
    """The first bytes of another request came, but not yet the end of its headers."""


@dataclass(frozen=True)
class Ended(Event):
    """Both sides have said goodbye: close the socket now, there is nothing to wait for."""
