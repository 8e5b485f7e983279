"""Payloads as the load client writes and checks them; what they say stands in `load/subscribe.c`."""

from __future__ import annotations


def stamp(number: int, size: int) -> bytes:
    """Return the payload of the `number`th message of publisher 0; it says that it is not to be measured."""
    return (b"W%019dP%03dS%010d " % (0, 0, number)).ljust(size, b"x")
