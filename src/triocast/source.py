"""What one group asks its engine for: messages it was not delivered, and where clients begin.

It keeps nothing, and gives nothing to members.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from triocast.core.message import Position
from triocast.core.recovery import Join, Wish
from triocast.engines import Engine, Page
from triocast.errors import EngineUnavailable, UnknownOutcome
from triocast.pauses import FIRST_PAUSE, drawn, longer
from triocast.recovery import Recovery, plan_recovery
from triocast.settings import GroupSettings

logger = logging.getLogger("triocast.group")

_Answer = TypeVar("_Answer")


class Source:
    """The engine as the group `name` sees it."""

    def __init__(self, engine: Engine, name: str, settings: GroupSettings) -> None:
        self._engine = engine
        self._name = name
        self._settings = settings

    async def fetch(self, after: int, limit: int) -> Page:
        """Return at most `limit` of the messages after the offset `after` that can still be had.

        Waits for an engine that can't be reached: that makes members wait, it loses them nothing.
        """
        return await self._patiently(partial(self._engine.fetch, self._name, after, limit))

    async def plan(self, wish: Wish, at: Position) -> Recovery:
        """Find out where a client begins that has joined `at` this position and has this wish. Raises `EngineError`."""
        settings = self._settings
        valued = settings.join is Join.LAST
        return await plan_recovery(self._engine, self._name, wish, at, settings.recovery_limit, valued=valued)

    async def plan_patiently(self, wish: Wish, at: Position) -> Recovery:
        """Find out the same, waiting for an engine that can't be reached."""
        return await self._patiently(partial(self.plan, wish, at))

    async def _patiently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        pause = FIRST_PAUSE
        while True:
            try:
                return await ask()
            except (EngineUnavailable, UnknownOutcome) as error:
                if pause == FIRST_PAUSE:  # the engine says itself what is the matter, once for all groups
                    logger.debug("waiting for the engine: %s", error, extra={"group": self._name})
                await trio.sleep(drawn(pause))
                pause = longer(pause)
