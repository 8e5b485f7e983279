"""Publishes a message with an idempotency key once, however often it is asked to, for engines that do not themselves.

It knows neither groups nor engines: how to publish, and how to get a receipt, its caller says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import trio

from triocast.core.idempotency import Ledger, Name, Record, digest_of
from triocast.core.message import Draft, Position, Receipt

SWEEP_EVERY = 1.0  # seconds; how late, at most, memory of what has expired is given back
SWEPT = 1000  # records forgotten between two turns of the event loop: about a millisecond
LONG = 256 * 1024  # bytes whose digest is made in a thread: a quarter of a millisecond

Publish = Callable[[], Awaitable[Position]]
Receive = Callable[[Position], Awaitable[Receipt]]
Start = Callable[..., None]


class Once:
    """The messages with idempotency keys that were published, or are being published; at most `limit` keys."""

    def __init__(self, limit: int) -> None:
        self._ledger = Ledger(limit)
        self._waiting: dict[Record, trio.Event] = {}

    def __len__(self) -> int:
        return len(self._ledger)

    def __repr__(self) -> str:
        return f"<Once {self._ledger!r}, {len(self._waiting)} waited for>"

    async def run(self) -> None:
        """Forget, every second, what is over its time."""
        while True:
            await trio.sleep(SWEEP_EVERY)
            while self._ledger.expire(trio.current_time(), SWEPT) == SWEPT:
                await trio.lowlevel.checkpoint()

    async def publish(self, name: Name, draft: Draft, publish: Publish, receive: Receive, start: Start) -> Receipt:
        """Publish a draft if it is the first of its `name`, and return the first one's receipt.

        A repeat waits for the first; if that one fails or is cancelled before its message has a position, one of those
        who wait becomes the first. If it is cancelled later, `start` is asked to run a task that gets its receipt.
        Raises what `publish` raises, `IdempotencyConflict` and `TooManyKeys`.
        """
        digest = await trio.to_thread.run_sync(digest_of, draft) if len(draft.data) > LONG else digest_of(draft)
        record = self._ledger.claim(name, digest, trio.current_time())
        while record.busy:
            await self._wait(record)
            if record.outcome is None:  # the first has failed
                record = self._ledger.claim(name, digest, trio.current_time())
        if record.outcome is None:
            return await self._receipt(record, await self._first(record, publish), receive, start)
        return replace(await self._receipt(record, record.outcome, receive, start), repeated=True)

    async def _first(self, record: Record, publish: Publish) -> Position:
        with self._busy(record):
            try:
                position = await publish()
            except BaseException:
                self._ledger.drop(record)
                raise
            self._ledger.keep(record, position, trio.current_time())
            return position

    async def _receipt(self, record: Record, outcome: Position | Receipt, receive: Receive, start: Start) -> Receipt:
        """Return the receipt of a message that is published."""
        if isinstance(outcome, Receipt):
            await trio.lowlevel.checkpoint()
            return outcome
        try:
            return await self._receive(record, outcome, receive)
        except trio.Cancelled:  # it is for whoever asks again
            start(self._finish, record, receive)
            raise

    async def _finish(self, record: Record, receive: Receive) -> None:
        if not record.busy and isinstance(record.outcome, Position):
            await self._receive(record, record.outcome, receive)

    async def _receive(self, record: Record, position: Position, receive: Receive) -> Receipt:
        with self._busy(record):
            receipt = record.outcome = await receive(position)
            return receipt

    async def _wait(self, record: Record) -> None:
        await self._waiting.setdefault(record, trio.Event()).wait()

    @contextmanager
    def _busy(self, record: Record) -> Iterator[None]:
        record.busy = True
        try:
            yield
        finally:
            record.busy = False
            if record in self._waiting:
                self._waiting.pop(record).set()
