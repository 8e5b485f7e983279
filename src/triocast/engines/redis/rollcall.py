"""Tells the server which connections of this process are in which groups: what comes in is sent on in few batches.

Whoever comes or goes waits for nothing. It looks at no other process: the sweep does.
"""

from __future__ import annotations

import logging

import trio

from triocast.bell import Bell
from triocast.core.presence import Member, Reason
from triocast.engines import Host
from triocast.engines.redis.book import BATCH, Book
from triocast.engines.redis.keys import partition_of
from triocast.engines.redis.roll_store import RollStore
from triocast.errors import EngineError
from triocast.settings import Settings

AGAIN = 0.5  # seconds until what failed is tried again

logger = logging.getLogger("triocast.redis")


class Rollcall:
    """One process's. `run` it; `enter` and `depart` at any time."""

    def __init__(self, store: RollStore, process: str, settings: Settings) -> None:
        self.graces: dict[int, float] = {}
        """Partitions where members are leaving that we told of, and when the last of them has left; trio's clock."""
        self._books: dict[int, Book] = {}  # they stay: a number that was used must not come again
        self._store = store
        self._process = process
        self._settings = settings
        self._work = Bell()
        self._waiting: dict[int, None] = {}  # partitions that have something to tell, and nobody who does
        self._busy: set[int] = set()
        self._failed = False

    def __repr__(self) -> str:
        members = sum(map(len, self._books.values()))
        return f"<Rollcall of {members} members, {len(self._busy)} partitions busy>"

    def enter(self, group: str, member: Member) -> None:
        """Take a member in, if the group's settings want to know; harmless if it is one."""
        if self._settings.for_group(group).presence:
            partition = partition_of(group)
            self._book(partition).enter(group, member)
            self._arouse(partition)

    def depart(self, group: str, client: str, reason: Reason) -> None:
        """Strike a member off, with the group's grace if it was not removed; harmless if it is none."""
        partition = partition_of(group)
        if partition in self._books:
            self._books[partition].depart(group, client, reason, self._grace(group, reason))
            self._arouse(partition)

    def expects(self, partition: int) -> tuple[str, int] | None:
        """Return what the server should have of this process, and after how many batches; None while it is told."""
        book = self._books.get(partition)
        if book is None:
            return "", 0
        return None if partition in self._busy else (book.mark, book.numbers)

    def judge(self, partition: int, expected: tuple[str, int] | None, mark: str) -> None:
        """Take what the server has of this process, which was `expected` when it was asked."""
        if expected is not None and expected == self.expects(partition) and mark != expected[0]:
            self._book(partition).refuse()
            self._arouse(partition)

    def _arouse(self, partition: int) -> None:
        """Have the server told what there is to tell."""
        if partition not in self._busy and not self._books[partition].idle:
            self._waiting[partition] = None
            self._work.ring()

    async def run(self, host: Host) -> None:
        """Tell the server until cancelled, all partitions at the same time."""
        self._busy.clear()
        self._waiting = dict.fromkeys(self._books)
        async with trio.open_nursery() as nursery:
            while True:
                while not self._waiting:
                    await self._work.wait()
                waiting, self._waiting = self._waiting, {}
                self._busy |= waiting.keys()
                for partition in waiting:
                    nursery.start_soon(self.tell, partition, host)

    async def leave(self, host: Host) -> None:
        """Tell that nobody is here any more. What can't be told is found out by others."""
        async with trio.open_nursery() as nursery:
            for partition, book in self._books.items():
                book.depart_all((group, self._grace(group, Reason.LEFT)) for group in book.groups())
                nursery.start_soon(self.tell, partition, host)

    def _book(self, partition: int) -> Book:
        return self._books.setdefault(partition, Book())

    def _grace(self, group: str, reason: Reason) -> float:
        return self._settings.for_group(group).presence_grace if reason is Reason.LEFT else 0.0

    async def tell(self, partition: int, host: Host) -> None:
        """Tell the server of one partition, a batch after the other."""
        book = self._books[partition]
        while not book.idle:
            try:
                await self._tell_once(partition, book, host)
            except EngineError as error:
                if not self._failed:  # said once, not for each partition and every moment
                    logger.info("who came and went can't be told at the moment: %s", error)
                self._failed = True
                await trio.sleep(AGAIN)
            else:
                self._failed = False
        self._busy.discard(partition)

    async def _tell_once(self, partition: int, book: Book, host: Host) -> None:
        batch = book.take()
        if batch is None:
            book.prune(await self._store.members_of(partition, self._process, BATCH, book.generation))
            return
        answer = await self._store.change(partition, batch)
        if answer is None:
            book.refuse()
            return
        grace = max((order.grace for order in batch.orders), default=0.0)
        if grace:
            until = trio.current_time() + grace
            self.graces[partition] = max(until, self.graces.get(partition, until))
        for news in book.settle(answer):
            host.noticed(news.group, news.changes, occupied=news.occupied, vacated=news.vacated)
