"""A way out to one client, as its connection sees it; `triocast.transports` has them.

Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from triocast.core.message import Position
from triocast.core.wire import Format, Told
from triocast.errors import Close
from triocast.meters import Eviction
from triocast.subscription import Outlet


class Disconnected(Exception):
    """The client is gone: it closed with `code` and `reason`, or vanished (1006), or was reset as `eviction` says."""

    def __init__(self, code: int = 1006, reason: str = "", eviction: Eviction | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.eviction = eviction


class Transport(Protocol):
    """A way out to one client. Each passes the suite in `tests/transports`."""

    name: str
    format: Format
    outlet: Outlet | None
    limit: int  # messages that it takes in one write

    async def open(self, positions: Sequence[Position]) -> None:
        """Accept the client; called once, before anything else. What it is given of its groups begins after
        `positions`, which are in the order in which it named them."""

    async def wait_writable(self) -> None:
        """Write what is left of a frame that was begun, and wait until the client can take more. Raises as `send`."""

    async def send(self, told: Sequence[Told]) -> None:
        """Write messages and gaps, in order. Raises `trio.BrokenResourceError` when the client is gone; cancelled,
        the transport is of no more use."""

    async def send_data(self, data: str | bytes) -> None:
        """Write a message for this client alone; otherwise as `send`."""

    async def receive(self) -> str | bytes:
        """Wait for what the client sends. Raises `Disconnected` once it is gone; cancelled, nothing is lost."""

    async def close(self, close: Close) -> None:
        """Tell the client that it is over, and why."""

    def abort(self) -> None:
        """Cut the client off, whatever is being written."""
