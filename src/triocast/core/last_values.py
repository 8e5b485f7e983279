"""A group's last values: the newest message of each key, for clients that come in new.

It knows no history, and nobody who reads.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from triocast.core.message import Message


class LastValues:
    """The newest message of each of at most `max_keys` keys; messages without a key are one key.

    One key more, and the one that was silent longest is forgotten. Kept until a newer one comes, whatever its age.
    """

    __slots__ = ("_by_key", "_max_keys", "weight")

    def __init__(self, max_keys: int) -> None:
        self.weight = 0
        """What the values weigh together, in bytes."""
        self._by_key: OrderedDict[str | None, Message] = OrderedDict()  # in the order of their offsets
        self._max_keys = max_keys

    def __len__(self) -> int:
        return len(self._by_key)

    def __repr__(self) -> str:
        return f"<LastValues of {len(self)} keys, weight {self.weight}>"

    def put(self, message: Message) -> None:
        """Take the newest message of its group."""
        before = self._by_key.pop(message.key, None)
        if before is None and len(self._by_key) >= self._max_keys:
            _, before = self._by_key.popitem(last=False)
        if before is not None:
            self.weight -= before.weight
        self._by_key[message.key] = message
        self.weight += message.weight

    def after(self, offset: int, limit: int) -> list[Message]:
        """Return at most `limit` of the values after the offset `offset`, oldest first."""
        return list(islice((value for value in self._by_key.values() if value.offset > offset), limit))
