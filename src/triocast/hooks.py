"""Tells the application who came to a group and who went: one bounded queue, one task, handlers one after the other.

It never makes a server wait: what a full queue can't take is counted and dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from inspect import iscoroutinefunction
from math import inf
from typing import Any

import trio

from triocast.core.presence import Change, Departed, Entered, Member, Moved, Reason

logger = logging.getLogger("triocast.hooks")


class Hook(Enum):
    """What an application can ask to be told of."""

    JOIN = "join"
    LEAVE = "leave"
    MOVE = "move"
    OCCUPIED = "occupied"
    VACATED = "vacated"


@dataclass(frozen=True, slots=True)
class Happening:
    """What a hook is given: `member` came to `group`, or left it for a `reason`, or has come back and is no longer the
    connection `was`; of a group that became occupied or vacated only its name."""

    hook: Hook
    group: str
    member: Member | None = None
    reason: Reason | None = None
    was: str | None = None


Handler = Callable[[Any], Awaitable[None]]


class Hooks:
    """The handlers of one application. At most `limit` happenings wait; each handler has `timeout` seconds for one."""

    def __init__(self, limit: int, timeout: float) -> None:
        self.dropped = dict.fromkeys(Hook, 0)
        """How many happenings found the queue full."""
        self.failed = dict.fromkeys(Hook, 0)
        """How often a handler raised, or took too long."""
        self._handlers: dict[Hook, list[Handler]] = {}
        self._timeout = timeout
        self._end = inf  # when all of them have to be done, at the latest
        self._current = trio.CancelScope()  # of the handler at work
        self._send, self._receive = trio.open_memory_channel[Happening](limit)

    def __len__(self) -> int:
        return self._receive.statistics().current_buffer_used

    def __repr__(self) -> str:
        return f"<Hooks {', '.join(hook.value for hook in self._handlers) or 'none'}, {len(self)} waiting>"

    def add(self, hook: Hook, handler: Handler) -> None:
        """Have `handler` called for each happening of that kind, in order. Raises `TypeError` unless it is async."""
        if not iscoroutinefunction(handler):
            raise TypeError(f"on_{hook.value} needs an async function, not {handler!r}")
        self._handlers.setdefault(hook, []).append(handler)

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        """Queue what happened, as far as somebody wants to know."""
        if not self._handlers:
            return
        if occupied:
            self._put(Happening(Hook.OCCUPIED, group))
        for change in changes:
            match change:
                case Entered(member):
                    self._put(Happening(Hook.JOIN, group, member))
                case Departed(member, reason):
                    self._put(Happening(Hook.LEAVE, group, member, reason))
                case Moved(member, was):
                    self._put(Happening(Hook.MOVE, group, member, was=was))
        if vacated:
            self._put(Happening(Hook.VACATED, group))

    async def run(self) -> None:
        """Call the handlers, one after the other, until cancelled; the one at work then has its time all the same."""
        while True:
            await self._call(await self._receive.receive())

    def reopen(self) -> None:
        """The server starts: handlers have their time again."""
        self._end = inf

    def hurry(self, patience: float) -> None:
        """The server stops: all handlers have to be done within `patience` seconds."""
        self._end = trio.current_time() + patience
        self._current.deadline = min(self._current.deadline, self._end)

    async def finish(self) -> None:
        """Call them for what still waits, until the time is over that `hurry` gave; what is left then is dropped.
        Cancelled, it goes on."""
        while len(self) and trio.current_time() < self._end < inf:
            await self._call(self._receive.receive_nowait())
        while len(self):
            self.dropped[self._receive.receive_nowait().hook] += 1

    def _put(self, happening: Happening) -> None:
        if happening.hook not in self._handlers:
            return
        try:
            self._send.send_nowait(happening)
        except trio.WouldBlock:
            if not self.dropped[happening.hook]:
                logger.warning("the queue for hooks is full: handlers are too slow, happenings are dropped")
            self.dropped[happening.hook] += 1

    async def _call(self, happening: Happening) -> None:
        for handler in self._handlers[happening.hook]:
            until = min(trio.current_time() + self._timeout, self._end)
            try:
                # Shielded: half of what it does for one of them must not be cut off because the server stops.
                with trio.CancelScope(deadline=until, shield=True) as self._current:
                    await handler(happening)
            except Exception:
                self.failed[happening.hook] += 1
                logger.exception("a handler of on_%s failed", happening.hook.value, extra={"group": happening.group})
            else:
                if self._current.cancelled_caught:
                    self.failed[happening.hook] += 1
                    logger.error(
                        "a handler of on_%s took too long (hook_timeout, or the server stops) and was cancelled",
                        happening.hook.value,
                        extra={"group": happening.group},
                    )
