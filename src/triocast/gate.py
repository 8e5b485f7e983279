"""The gate of a group with policy `block`: publishers wait in it, in their order, until nobody lags too far.

It publishes nothing; whoever passes does so while it holds the gate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from triocast.errors import Overloaded


class Blocked(Protocol):
    """What the gate needs of its group."""

    name: str

    @property
    def slowest(self) -> int:
        """How many messages the furthest member is behind."""

    def has_room_for(self, weight: int) -> bool:
        """Whether a message of `weight` bytes, with all that waits before it, makes nobody lag too far."""


class Gate:
    """First come, first served: one publisher at a time passes, with a position that nobody else can take."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._turn = trio.StrictFIFOLock()
        self._progress = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def room_for(self, group: Blocked, weight: int) -> AsyncIterator[None]:
        """Wait until a message of `weight` bytes may be published to `group`, whose gate this is, and hold the gate for
        the block.

        Raises `Overloaded` after `block_timeout` seconds, the wait for one's turn included; then, and when cancelled
        while waiting, nothing was published.
        """
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as patience:
            await self._turn.acquire()
            try:
                while not group.has_room_for(weight):
                    await self._progress.park()
            except BaseException:
                self._turn.release()
                raise
        if patience.cancelled_caught:
            raise Overloaded(
                f"a member of {group.name} is {group.slowest} messages behind, and its policy is to wait; "
                f"it did not catch up within {self._timeout:g} s (block_timeout): nothing was published, try again"
            )
        try:
            yield
        finally:
            self._turn.release()

    def progressed(self) -> None:
        """Somebody took something, or left: look again."""
        self._progress.unpark_all()
