"""A group's last values: the newest message of each key, for clients that come in new.

It knows no history, and nobody who reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from triocast.core.message import Message

SPARE = 64  # offsets that may be invalid in any case: a few keys are not tidied up with every message


class LastValues:
    """The newest message of each of at most `max_keys` keys; messages without a key are one key.

    One key more, and the one that was silent longest is forgotten. Kept until a newer one comes, whatever its age.
    """

    __slots__ = ("_by_key", "_keys", "_max_keys", "_offsets", "weight")

    def __init__(self, max_keys: int) -> None:
        self.weight = 0
        """What the values weigh together, in bytes."""
        self._by_key: OrderedDict[str | None, Message] = OrderedDict()  # in the order of their offsets
        self._max_keys = max_keys
        # Every offset with its key, ascending: where a page begins. Those that a newer value or a newer key has made
        # invalid stay until they are half of them. Both lists refer to what the messages have, 16 bytes a value.
        self._offsets: list[int] = []
        self._keys: list[str | None] = []

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
        self._offsets.append(message.offset)
        self._keys.append(message.key)
        if len(self._offsets) > 2 * len(self._by_key) + SPARE:
            self._offsets = [value.offset for value in self._by_key.values()]
            self._keys = list(self._by_key)

    def after(self, offset: int, limit: int) -> list[Message]:
        """Return at most `limit` of the values after the offset `offset`, oldest first."""
        return list(islice(self._from(bisect_right(self._offsets, offset)), limit))

    def _from(self, place: int) -> Iterator[Message]:
        for at in range(place, len(self._offsets)):
            value = self._by_key.get(self._keys[at])
            if value is not None and value.offset == self._offsets[at]:
                yield value
