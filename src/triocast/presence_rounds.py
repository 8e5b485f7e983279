"""Tells the watchers of all groups what was gathered for them, once it is due: one task for a whole hub.

It decides nothing about what is told.
"""

from __future__ import annotations

import logging

import trio

from triocast.bell import Bell
from triocast.errors import CRASHED
from triocast.lanes import ROUND
from triocast.notices import QUIET
from triocast.watchers import Watchers

logger = logging.getLogger("triocast.presence")


class PresenceRounds:
    """`run` it; `arouse` says that some watchers have something coming."""

    def __init__(self) -> None:
        self._waiting: dict[Watchers, None] = {}
        self._work = Bell()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<PresenceRounds {len(self)} groups waiting>"

    def arouse(self, watchers: Watchers) -> None:
        """Take note that there is something to tell; harmless twice."""
        self._waiting[watchers] = None
        self._work.ring()

    async def run(self) -> None:
        """Tell what is due until cancelled. While there is something it looks every `QUIET` seconds."""
        while True:
            while not self._waiting:
                await self._work.wait()
            await trio.sleep(QUIET)
            await self._round()

    async def _round(self) -> None:
        until = trio.current_time() + ROUND
        for watchers in list(self._waiting):
            if watchers.waiting and watchers.due > trio.current_time():
                continue
            self._waiting.pop(watchers, None)
            await _tell(watchers)
            if watchers.waiting:
                self._waiting[watchers] = None
            if trio.current_time() >= until:
                await trio.lowlevel.checkpoint()
                until = trio.current_time() + ROUND


async def _tell(watchers: Watchers) -> None:
    """Whatever fails ends these watchers with 1011, and nothing else."""
    try:
        await watchers.tell()
    except Exception:
        logger.exception("members could not be told who is there; they are closed", extra={"group": watchers.group})
        watchers.end(CRASHED)
