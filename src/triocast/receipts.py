"""The publishers of one group that wait to hear who was there, and the message that an engine fails to deliver to them.

It publishes nothing; what it finds missing it asks the broadcaster to fetch.
"""

from __future__ import annotations

import trio

from triocast.core.log import Entry
from triocast.core.message import Message
from triocast.inbox import Inbox, InboxClosed, Recall

RECALL_AFTER = 1.0  # seconds until a message that the engine took but did not deliver is fetched


class Receipts:
    """Who waits for which offset. `at_once` says that the engine has put each message into `inbox` already."""

    def __init__(self, inbox: Inbox, *, at_once: bool) -> None:
        self._inbox = inbox
        self._at_once = at_once
        self._waiting: dict[int, _Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, offset: int) -> tuple[int, int]:
        """Wait until the message is in the log; return how many subscribers there were just before, and how many of
        them were behind. Cancelled, the message is published all the same."""
        waiter = self._waiting.setdefault(offset, _Waiter())
        try:
            if self._at_once:
                await waiter.done.wait()
            while not waiter.done.is_set():
                with trio.CancelScope(deadline=trio.current_time() + RECALL_AFTER):
                    await waiter.done.wait()
                    break
                await self._recall(offset)
        finally:
            self._waiting.pop(offset, None)
        return waiter.subscribers, waiter.behind

    def resolve(self, entry: Entry, subscribers: int, behind: int) -> None:
        """`entry` is in the log: whoever waits for a message of it goes on."""
        if isinstance(entry, Message):
            waiters = [self._waiting[entry.offset]] if entry.offset in self._waiting else []
        else:
            waiters = [waiter for offset, waiter in self._waiting.items() if entry.first <= offset <= entry.last]
        for waiter in waiters:
            waiter.resolve(subscribers, behind)

    def resolve_all(self, subscribers: int, behind: int) -> None:
        """The group has ended: nobody waits any longer."""
        for waiter in self._waiting.values():
            waiter.resolve(subscribers, behind)

    async def _recall(self, offset: int) -> None:
        try:
            await self._inbox.reserve()
        except InboxClosed:
            return
        self._inbox.put_nowait(Recall(offset))


class _Waiter:
    """A publisher that waits for its receipt."""

    __slots__ = ("behind", "done", "subscribers")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.subscribers = 0
        self.behind = 0

    def resolve(self, subscribers: int, behind: int) -> None:
        if not self.done.is_set():
            self.subscribers, self.behind = subscribers, behind
            self.done.set()
