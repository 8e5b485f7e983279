"""What was published with which idempotency key, so that no group is given the same message twice.

It publishes nothing and waits for nobody; time comes in as an argument.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass

from triocast.core.message import Draft, Position, Receipt
from triocast.errors import IdempotencyConflict, TooManyKeys

REMEMBERED = 300.0  # seconds from the publish on; who has tried in vain for five minutes has somebody to tell
DIGEST = 16  # bytes; enough that nobody finds two messages that share one

Name = tuple[str, str]
"""A group and an idempotency key in it."""


@dataclass(slots=True, eq=False)
class Record:
    """One key in one group.

    The `outcome` is None until the message is published, its position until the receipt is known, then the receipt.
    `busy` says that somebody is about to change it.
    """

    name: Name
    digest: bytes
    until: float = math.inf
    outcome: Position | Receipt | None = None
    busy: bool = False


class Ledger:
    """At most `limit` records: those of messages that are being published, and those of the last 300 seconds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[Name, Record] = {}
        self._kept: OrderedDict[Name, Record] = OrderedDict()  # in the order in which they expire

    def __len__(self) -> int:
        return len(self._open) + len(self._kept)

    def __repr__(self) -> str:
        return f"<Ledger {len(self._open)} open, {len(self._kept)} kept, of {self._limit}>"

    def claim(self, name: Name, digest: bytes, now: float) -> Record:
        """Return the record of a key, a new one if there is none.

        Raises `IdempotencyConflict` if it is that of another message. None is forgotten early for it: raises
        `TooManyKeys`.
        """
        record = self._find(name, now)
        if record is None:
            return self._enter(Record(name, digest), now)
        if record.digest != digest:
            raise IdempotencyConflict(
                f"the idempotency key {name[1]!r} came to {name[0]} with another message less than {REMEMBERED:g} s "
                "ago: nothing was published; a new message needs a new key"
            )
        return record

    def keep(self, record: Record, position: Position, now: float) -> None:
        """The message of an open record was published."""
        del self._open[record.name]
        record.outcome = position
        record.until = now + REMEMBERED
        self._kept[record.name] = record

    def drop(self, record: Record) -> None:
        """The message of an open record was not published: its key may be used as if it never had been."""
        del self._open[record.name]

    def expire(self, now: float, at_most: int) -> int:
        """Forget what is over its time, at most so many records; return how many."""
        count = 0
        while count < at_most and self._kept and next(iter(self._kept.values())).until <= now:
            self._kept.popitem(last=False)
            count += 1
        return count

    def _find(self, name: Name, now: float) -> Record | None:
        record = self._kept.get(name)
        if record is None:
            return self._open.get(name)
        if record.until > now:
            return record
        del self._kept[name]
        return None

    def _enter(self, record: Record, now: float) -> Record:
        if len(self) >= self._limit and not self.expire(now, at_most=1):
            raise TooManyKeys(
                f"{self._limit} idempotency keys (idempotency_keys) are remembered, each for {REMEMBERED:g} s: "
                "nothing was published; try again later"
            )
        self._open[record.name] = record
        return record


def digest_of(draft: Draft) -> bytes:
    """Return what tells this draft's kind, key and payload from any others."""
    key = None if draft.key is None else draft.key.encode(errors="surrogatepass")
    head = b"%s %d %s" % (draft.kind.value.encode(), -1 if key is None else len(key), key or b"")
    digest = hashlib.blake2b(head, digest_size=DIGEST)
    digest.update(draft.data)
    return digest.digest()
