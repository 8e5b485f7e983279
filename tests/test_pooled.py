from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from tests.served import served
from triocast.metrics import Metrics
from triocast.pooled import Pool

ONE = '# HELP a_total Things.\n# TYPE a_total counter\na_total{kind="x"} 1.0\n# HELP b Now.\n# TYPE b gauge\nb 5.0\n'
TWO = '# HELP a_total Things.\n# TYPE a_total counter\na_total{kind="x"} 2.0\na_total{kind="y\\n"} 3.0\n'


def samples(pool: Pool) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in pool.collect()
        if family.name != "triocast_worker_up"
    }


def test_every_family_stands_once_with_the_samples_of_all_workers() -> None:
    assert samples(Pool({"1": ONE, "2": TWO})) == {
        "a": [
            ({"worker": "1", "kind": "x"}, 1.0),
            ({"worker": "2", "kind": "x"}, 2.0),
            ({"worker": "2", "kind": "y\n"}, 3.0),
        ],
        "b": [({"worker": "1"}, 5.0)],
    }


def test_who_did_not_answer_is_said() -> None:
    (up, *_) = Pool({"1": ONE, "2": None, "3": ""}).collect()
    assert [(sample.labels["worker"], sample.value) for sample in up.samples] == [("1", 1), ("2", 0), ("3", 1)]


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_a_real_page_of_two_workers_can_be_read_again_and_loses_nothing(accept: str) -> None:
    async with served() as app:
        await app.publish("g", b"x")
        text = await Metrics(app.hub).text()
    registry = CollectorRegistry()
    registry.register(Pool({"1": text, "2": text}))
    encode, _ = choose_encoder(accept)
    pooled = encode(registry).decode().removesuffix("# EOF\n")
    once = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    twice = [sample for family in text_string_to_metric_families(pooled) for sample in family.samples]
    assert len(twice) == 2 * len(once) + 2
    for sample in once:
        for worker in ("1", "2"):
            same = [
                each.value
                for each in twice
                if each.name == sample.name and each.labels == {"worker": worker, **sample.labels}
            ]
            assert same == [sample.value]
