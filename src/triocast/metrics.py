"""A hub's numbers in the formats that Prometheus reads: what was counted, and a look at what there is at the moment.

It counts nothing itself, runs nothing in the background, and shares no registry: two applications in one process do
not meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from triocast.group import Group
from triocast.hub import Hub
from triocast.meters import Histogram
from triocast.pooled import Pool

NODE = ("node",)
LOOKED_AT = 250  # groups between two turns of the event loop: about a millisecond, while there may be 100,000


@dataclass(slots=True)
class Tally:
    """The groups of one namespace as they are."""

    groups: int = 0
    subscriptions: int = 0
    watching: int = 0
    behind: int = 0
    lag: int = 0
    inbox: int = 0
    inbox_largest: int = 0

    def add(self, group: Group) -> None:
        """Look at one more group."""
        waiting = group.waiting
        self.groups += 1
        self.subscriptions += group.subscribers
        self.watching += group.watching
        self.behind += group.behind
        self.lag = max(self.lag, group.slowest)
        self.inbox += waiting
        self.inbox_largest = max(self.inbox_largest, waiting)


@dataclass(slots=True)
class Census:
    """All groups, by the label of their namespace."""

    tallies: dict[str, Tally] = field(default_factory=dict)


class Metrics:
    """The metrics of one hub, in a registry of their own, to which an application may add."""

    def __init__(self, hub: Hub) -> None:
        self.registry = CollectorRegistry()
        self._hub = hub
        self._numbers = HubCollector(hub)
        self.registry.register(self._numbers)
        ProcessCollector(registry=self.registry)

    async def page(self, accept: str, workers: Workers | None = None) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that the `Accept` header asks for; where this is one
        of several `workers`, those of all.

        Looks at all groups first, giving others a turn every now and then.
        """
        encode, content_type = choose_encoder(accept)
        if workers is None:
            self._numbers.census = await take_census(self._hub)
            return encode(self.registry), content_type
        pool = CollectorRegistry()
        pool.register(Pool(await workers.pages(await self.text())))
        # In a thread: to read and write the pages of 16 workers with 100 namespaces each takes half a second.
        return await trio.to_thread.run_sync(encode, pool), content_type

    async def text(self) -> str:
        """Return the metrics in Prometheus's text format, for another process to read."""
        self._numbers.census = await take_census(self._hub)
        return generate_latest(self.registry).decode()


class Workers(Protocol):
    """The other processes of this server."""

    async def pages(self, own: str) -> Mapping[str, str | None]:
        """Return the page of every worker by its label, `own` among them; None for one that does not answer."""


async def take_census(hub: Hub) -> Census:
    """Count what there is in all groups."""
    census = Census({label: Tally() for label in hub.meters.traffic})
    for count, group in enumerate(hub.opened_groups()):
        census.tallies[hub.meters.label_of(group.name)].add(group)
        if count % LOOKED_AT == LOOKED_AT - 1:
            await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    return census


class HubCollector(Collector):
    """Tells a registry what the hub has counted, and what the newest `census` found."""

    def __init__(self, hub: Hub) -> None:
        self.census = Census()
        self._hub = hub

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are unique in a registry that this collector has to itself."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give every metric, as it is now."""
        yield GaugeMetricFamily("triocast_connections", "Clients that are connected.", self._hub.connections)
        yield GaugeMetricFamily(
            "triocast_idempotency_keys", "Idempotency keys that this process remembers.", self._hub.idempotency_keys
        )
        yield from self._tallies()
        yield from self._traffic()
        yield self._evictions()
        yield from self._hooks()
        yield from self._engine()
        yield _histogram(
            "triocast_broadcast_round_seconds", "How long a broadcast to a group took.", self._hub.meters.rounds
        )
        yield _histogram(
            "triocast_publish_to_write_seconds",
            "From a message's position to the end of the round that wrote it to those who keep up.",
            self._hub.meters.publish_to_write,
        )

    def _tallies(self) -> Iterator[Metric]:
        for name, text, attribute in (
            ("groups", "Groups with members here.", "groups"),
            ("subscriptions", "Memberships of clients in groups.", "subscriptions"),
            ("watching_subscriptions", "Memberships that are told who comes and goes.", "watching"),
            ("behind_subscriptions", "Memberships that have not taken everything.", "behind"),
            ("lag_messages", "Messages that the furthest member is behind.", "lag"),
            ("inbox_messages", "Messages that wait for a broadcaster.", "inbox"),
            ("inbox_largest_messages", "Messages in the fullest inbox of a group.", "inbox_largest"),
        ):
            gauge = GaugeMetricFamily(f"triocast_{name}", text, labels=("namespace",))
            for label, tally in self.census.tallies.items():
                gauge.add_metric((label,), getattr(tally, attribute))
            yield gauge

    def _traffic(self) -> Iterator[Metric]:
        traffic = self._hub.meters.traffic
        for name, text, attribute in (
            ("published_messages", "Messages published by this process.", "published"),
            ("published_bytes", "Bytes of payload published by this process.", "published_bytes"),
            ("repeated_messages", "Publishes whose idempotency key had been used: not published again.", "repeated"),
            ("delivered_messages", "Messages given to members, each as often as it was given.", "delivered"),
            ("delivered_bytes", "Bytes of payload given to members.", "delivered_bytes"),
        ):
            counter = CounterMetricFamily(f"triocast_{name}", text, labels=("namespace",))
            for label, counts in traffic.items():
                counter.add_metric((label,), getattr(counts, attribute))
            yield counter
        dropped = CounterMetricFamily(
            "triocast_dropped_messages", "Messages that members were not given.", labels=("namespace", "policy")
        )
        for label, counts in traffic.items():
            for policy, count in counts.dropped.items():
                dropped.add_metric((label, policy), count)
        yield dropped

    def _engine(self) -> Iterator[Metric]:
        engine = self._hub.engine
        if engine.nodes:
            up = GaugeMetricFamily("triocast_engine_up", "Whether a server of the engine's can be asked.", labels=NODE)
            since = GaugeMetricFamily(
                "triocast_engine_state_seconds", "For how long that has been so, or not.", labels=NODE
            )
            now = trio.current_time()
            for node in engine.nodes:
                up.add_metric((node.name,), node.up)
                since.add_metric((node.name,), now - node.since)
            yield up
            yield since
        if engine.process is not None:
            yield GaugeMetricFamily(
                "triocast_engine_unsubscribed_groups",
                "Groups with members here that do not hear at the moment what is published.",
                engine.unsubscribed,
            )
            failed = CounterMetricFamily(
                "triocast_publishes_failed", "Publishes that the engine did not answer.", labels=("outcome",)
            )
            for failure, count in self._hub.meters.failed.items():
                failed.add_metric((failure.value,), count)
            yield failed

    def _hooks(self) -> Iterator[Metric]:
        hooks = self._hub.hooks
        yield GaugeMetricFamily("triocast_hooks_waiting", "Joins and leaves that wait for a hook.", len(hooks))
        for name, text, counts in (
            (
                "drops",
                "Joins and leaves that hooks were not told of: their queue was full, or the server ended.",
                hooks.dropped,
            ),
            ("failures", "Calls of a hook that raised or took too long.", hooks.failed),
        ):
            counter = CounterMetricFamily(f"triocast_hook_{name}", text, labels=("hook",))
            for hook, count in counts.items():
                counter.add_metric((hook.value,), count)
            yield counter

    def _evictions(self) -> Metric:
        counter = CounterMetricFamily(
            "triocast_evictions", "Clients ended because they could not keep up.", labels=("reason",)
        )
        for reason, count in self._hub.meters.evicted.items():
            counter.add_metric((reason.value,), count)
        return counter


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, map(float, histogram.cumulative), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum)
