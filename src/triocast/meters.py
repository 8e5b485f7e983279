"""What a process counts while it runs: plain numbers, so that counting costs next to nothing where it happens.

It knows neither Prometheus nor who counts; labels are bounded here, before anything is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import accumulate

from triocast.core.message import Message
from triocast.core.names import namespace_of
from triocast.core.wire import Told

OTHER = "other"
"""The label of all namespaces that the settings do not name: publishers make names, and must not make series."""

# Upper bounds in seconds. A round of one member takes some 20 microseconds, one of 10,000 some 100 milliseconds.
ROUND_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
# A message waits for the round before it and for its own; seconds mean that the process is far beyond what it can do.
WRITE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Eviction(Enum):
    """Why a client was ended because it, or the way to it, could not keep up."""

    TOO_SLOW = "too_slow"  # behind by more than max_lag, with policy disconnect
    MISSED = "missed"  # asked to be closed (strict=1) instead of missing something
    PINNED_BYTES = "pinned_bytes"  # policy drop_newest, and no memory left to freeze what it had coming
    WRITE_TIMEOUT = "write_timeout"  # took no bytes
    PING_TIMEOUT = "ping_timeout"  # answered no ping
    INBOUND_TIMEOUT = "inbound_timeout"  # sent faster than its handler takes


class Failure(Enum):
    """What became of a publish that the engine did not answer."""

    UNAVAILABLE = "unavailable"  # it was not asked: nothing was published
    UNKNOWN = "unknown_outcome"  # its answer was lost


class Histogram:
    """How many of the values observed were at most each of `bounds`, and what they add up to."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def cumulative(self) -> list[int]:
        """For each bound, and last for none, how many values were at most it."""
        return list(accumulate(self._counts))


class Traffic:
    """What went through the groups of one namespace; bytes are those of payloads."""

    __slots__ = ("delivered", "delivered_bytes", "dropped", "published", "published_bytes", "repeated")

    def __init__(self) -> None:
        self.published = 0
        self.published_bytes = 0
        self.repeated = 0
        self.delivered = 0
        self.delivered_bytes = 0
        self.dropped: Counter[str] = Counter()

    def publish(self, size: int) -> None:
        """A message of `size` bytes was published by this process."""
        self.published += 1
        self.published_bytes += size

    def repeat(self) -> None:
        """A publish was answered with the receipt of an earlier one."""
        self.repeated += 1

    def deliver(self, entries: Iterable[Told], members: int = 1) -> None:
        """Each of `members` was given `entries`, of which messages count and what stands in their place does not."""
        if members:
            sizes = [len(entry.data) for entry in entries if isinstance(entry, Message)]
            self.delivered += members * len(sizes)
            self.delivered_bytes += members * sum(sizes)

    def drop(self, policy: str, count: int) -> None:
        """A subscriber was not given `count` messages, because of `policy`."""
        self.dropped[policy] += count


class Meters:
    """All that one hub counts. `namespaces` are those that the settings name."""

    def __init__(self, namespaces: Iterable[str] = ()) -> None:
        self.traffic = {namespace: Traffic() for namespace in ("", *namespaces, OTHER)}
        self.evicted = dict.fromkeys(Eviction, 0)
        self.failed = dict.fromkeys(Failure, 0)
        self.rounds = Histogram(ROUND_BOUNDS)
        self.publish_to_write = Histogram(WRITE_BOUNDS)

    def label_of(self, group: str) -> str:
        """Return the label of a group's namespace: its name if the settings know it, else `other`."""
        namespace = namespace_of(group)
        return namespace if namespace in self.traffic else OTHER

    def of(self, group: str) -> Traffic:
        """Return what a group's namespace counts in."""
        return self.traffic[self.label_of(group)]

    def round(self, seconds: float, ages: Iterable[float]) -> None:
        """A broadcast took `seconds`; at its end its messages were as old as `ages` say."""
        self.rounds.observe(seconds)
        for age in ages:
            self.publish_to_write.observe(age)

    def fail(self, failure: Failure) -> None:
        """A publish was refused because of the engine."""
        self.failed[failure] += 1

    def evict(self, reason: Eviction) -> None:
        """A client was ended."""
        self.evicted[reason] += 1
