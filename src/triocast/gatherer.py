"""Gathers what one round of a group's broadcaster is about: one write for every member, whatever many publish.

It appends and writes nothing.
"""

from __future__ import annotations

import trio

from triocast.inbox import Inbox, Item

QUIET_TURNS = 3  # turns of the event loop without a publish until a round begins


class Gatherer:
    """Takes from `inbox`; whoever broadcasts tells it how long each round took."""

    def __init__(self, inbox: Inbox) -> None:
        self.last_round = 0.0
        """Seconds."""
        self._inbox = inbox
        self._last_count = 0  # items of the last round

    async def gather(self) -> list[Item]:
        """Take what waits, and what other publishers are about to deliver. Raises `InboxClosed`.

        Waits for a few quiet turns of the event loop, and never longer than the last round took: longer waiting would
        raise throughput further and ruin latency.
        """
        items = await self._inbox.take()
        several = len(items) > 1 or self._last_count > 1
        self._last_count = len(items)
        if not several:  # one publisher, who waits for this round before it says more
            return items
        until = trio.current_time() + self.last_round
        quiet = 0
        while quiet < QUIET_TURNS and trio.current_time() < until:
            await trio.lowlevel.checkpoint()
            more = self._inbox.take_nowait()
            items += more
            quiet = 0 if more else quiet + 1
        self._last_count = len(items)
        return items
