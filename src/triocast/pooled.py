"""The metrics of several processes as one page: each sample with the label of its worker, and which workers answered.

Pure: texts come in, families of metrics go out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

WORKER = "worker"


class Pool(Collector):
    """A page of each worker, in Prometheus's text format, by the worker's label; None where there was no answer."""

    def __init__(self, pages: Mapping[str, str | None]) -> None:
        self._pages = pages

    def describe(self) -> Iterator[Metric]:
        """Nothing: names are unique in a registry that this collector has to itself."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Give every metric once, with the samples of all workers."""
        up = GaugeMetricFamily("triocast_worker_up", "Whether a worker answered when it was asked.", labels=(WORKER,))
        families: dict[str, Metric] = {}
        for worker, page in self._pages.items():
            up.add_metric((worker,), page is not None)
            for family in text_string_to_metric_families(page or ""):
                pooled = families.setdefault(family.name, _empty(family))
                for sample in family.samples:
                    pooled.add_sample(sample.name, {WORKER: worker, **sample.labels}, sample.value)
        yield up
        yield from families.values()


def _empty(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type)
