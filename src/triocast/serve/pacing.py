"""Spreads those who come in at once over turns of the event loop, so that those who are there hardly notice them.

It opens nothing and serves nobody.
"""

from __future__ import annotations

from typing import TypeVar

import trio

# Of the event loop, between two connections. Taking one in is some thirty steps of its tasks. With a new one in each
# turn, a turn lasts as long as all thirty together, and a message needs some eight turns from its publisher to its
# clients. With eight between, a turn lasts an eighth of that, and a thousand take a twentieth longer to come in.
TURNS = 8

_Stream = TypeVar("_Stream", bound=trio.abc.AsyncResource)


class Paced(trio.abc.Listener[_Stream]):
    """A listener that gives everybody else `TURNS` turns before each connection. An idle server does not wait."""

    def __init__(self, listener: trio.abc.Listener[_Stream]) -> None:
        self._listener = listener

    async def accept(self) -> _Stream:
        """Wait for a connection, as the listener below does. Cancelled, none was taken."""
        for _ in range(TURNS):
            await trio.lowlevel.checkpoint()
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Close the listener below."""
        await self._listener.aclose()
