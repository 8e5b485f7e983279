"""The names that a group has on the server: its partition, its keys, its channel; and those of orders.

It sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

PARTITIONS = 128  # each is one slot of a cluster: one connection subscribes to at most so many batches of channels
ORDERS = 0  # the partition that orders to all processes are in
_KINDS = (b"m:", b"s:", b"v:", b"z:", b"n:", b"c:", b"h:", b"o:", b"u:", b"b:")
REMEMBERED = 4096  # groups whose names are kept at hand: making them is a tenth of what a publish costs


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The names of one group."""

    partition: int
    meta: bytes
    """Hash: epoch, newest offset and its id, what all messages so far weigh."""
    stream: bytes
    """Messages by offset."""
    values: bytes
    """Hash: the newest message of each key."""
    order: bytes
    """Sorted set: those keys by the offset of their message."""
    census: bytes
    """Hash: what each process last reported."""
    channel: bytes
    members: bytes
    """Hash: members by their connections."""
    clients: bytes
    """Sorted set: those connections, by name."""
    users: bytes
    """Hash: how many members each user is."""
    back: bytes
    """Sorted set: leaving members, by what they are recognised by should they come back."""


class Keys:
    """Makes names with a prefix.

    Every name carries its partition as hash tag, `{NN}`: all that one script touches is on one node of a cluster.
    """

    def __init__(self, prefix: str = "triocast") -> None:
        """Raise `ValueError` for a prefix that would be a hash tag itself."""
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"the prefix {prefix!r} has a brace: those say which part of a key a cluster looks at")
        self._prefix = prefix.encode()
        self.orders = b"%b:{%d}:o" % (self._prefix, ORDERS)
        """Stream: the orders of the last minute."""
        self.hearers = b"%b:{%d}:h" % (self._prefix, ORDERS)
        """Sorted set: the processes that hear orders, by when they last said so."""
        self.orders_channel = b"%b:{%d}:orders" % (self._prefix, ORDERS)
        self.of = lru_cache(REMEMBERED)(self._of)
        """Return the names of a group."""

    def processes(self, partition: int) -> bytes:
        """Sorted set: the processes with members in groups of the partition, by when they last reported."""
        return b"%b:{%d}:p" % (self._prefix, partition)

    def names(self, partition: int) -> bytes:
        """Sorted set: the partition's groups that have members in some process, by name."""
        return b"%b:{%d}:g" % (self._prefix, partition)

    def ages(self, partition: int) -> bytes:
        """Sorted set: the same groups by when a process last told of them."""
        return b"%b:{%d}:a" % (self._prefix, partition)

    def records(self, partition: int) -> bytes:
        """Sorted set: the partition's idempotency records, by when they expire."""
        return b"%b:{%d}:x" % (self._prefix, partition)

    def record(self, group: str, idempotency_key: str) -> bytes:
        """The record of what was published with the key; `/`, which no group's name has, keeps the two apart."""
        return b"%b:{%d}:r:%b/%b" % (self._prefix, partition_of(group), group.encode(), idempotency_key.encode())

    def answers(self, order: bytes) -> bytes:
        """Hash: how many processes have carried out the order with this id, and on how many connections."""
        return b"%b:{%d}:d:%b" % (self._prefix, ORDERS, order)

    def here(self, partition: int) -> bytes:
        """Hash: the processes that have members in groups of the partition; what changes while they live."""
        return b"%b:{%d}:w" % (self._prefix, partition)

    def leaving(self, partition: int) -> bytes:
        """Sorted set: the partition's leaving members, by when their grace is over."""
        return b"%b:{%d}:l" % (self._prefix, partition)

    def index(self, partition: int, process: str) -> bytes:
        """Sorted set: the members that a process has in groups of the partition, by the generation it told them in."""
        return b"%b:{%d}:i:%b" % (self._prefix, partition, process.encode())

    def trace(self, partition: int, process: str) -> bytes:
        """Is there for a while if a process was taken for dead."""
        return b"%b:{%d}:f:%b" % (self._prefix, partition, process.encode())

    def ticket(self, partition: int, process: str, what: str) -> bytes:
        """The number and the answer of the last change of a kind that a process has asked for."""
        return b"%b:{%d}:t:%b:%b" % (self._prefix, partition, what.encode(), process.encode())

    def group_of(self, channel: bytes) -> str:
        """Return the group that a channel is of."""
        return channel.removeprefix(self._prefix).split(b":c:", 1)[1].decode()

    def _of(self, group: str) -> GroupKeys:
        partition, name = partition_of(group), group.encode()
        tagged = b"%b:{%d}:" % (self._prefix, partition)
        return GroupKeys(partition, *(tagged + each + name for each in _KINDS))


def partition_of(group: str) -> int:
    """Return which of the 128 partitions a group is in."""
    return crc32(group.encode()) % PARTITIONS
