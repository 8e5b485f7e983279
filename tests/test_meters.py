"""Counting: what is added up, and that labels stay few whatever names come."""

from __future__ import annotations

import pytest

from triocast.core.message import Gap, GapReason, Kind, Message
from triocast.meters import OTHER, Eviction, Histogram, Meters

HELLO = Message("g", "e", 1, Kind.TEXT, b"hello")
BYE = Message("g", "e", 2, Kind.TEXT, b"bye")
GAP = Gap("g", "e", 3, 9, GapReason.SLOW)


def test_a_histogram_counts_each_value_in_every_bucket_that_it_fits_in() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    assert histogram.cumulative == [2, 3, 4]
    assert histogram.sum == 10.0


@pytest.mark.parametrize(
    ("group", "label"),
    [("sample", ""), (":x", ""), ("chat:1", "chat"), ("docs:1", OTHER), ("other:1", OTHER), ("chat", "")],
)
def test_only_namespaces_that_the_settings_name_have_labels_of_their_own(group: str, label: str) -> None:
    meters = Meters(["chat"])
    assert meters.label_of(group) == label
    meters.of(group).publish(5)
    assert [name for name, traffic in meters.traffic.items() if traffic.published] == [label]


def test_names_that_clients_make_up_make_no_labels() -> None:
    meters = Meters(["chat"])
    for number in range(1000):
        meters.of(f"made-up-{number}:x").publish(1)
    assert set(meters.traffic) == {"", "chat", OTHER}
    assert meters.traffic[OTHER].published == 1000


def test_a_round_counts_its_messages_for_every_member_and_gaps_not_at_all() -> None:
    traffic = Meters().of("g")
    traffic.deliver([HELLO, BYE, GAP], members=10)
    traffic.deliver([HELLO])
    traffic.deliver([GAP])
    traffic.deliver([HELLO], members=0)
    assert (traffic.delivered, traffic.delivered_bytes) == (21, 85)


def test_drops_and_evictions_are_counted_by_their_cause() -> None:
    meters = Meters()
    meters.of("g").drop("drop_oldest", 7)
    meters.of("g").drop("drop_oldest", 1)
    meters.of("g").drop("latest", 2)
    assert meters.of("g").dropped == {"drop_oldest": 8, "latest": 2}
    meters.evict(Eviction.TOO_SLOW)
    assert {reason for reason, count in meters.evicted.items() if count} == {Eviction.TOO_SLOW}


def test_a_round_is_timed_with_the_age_of_each_of_its_messages() -> None:
    meters = Meters()
    meters.round(0.5, [0.75, 1.5])
    assert (meters.rounds.cumulative[-1], meters.rounds.sum) == (1, 0.5)
    assert (meters.publish_to_write.cumulative[-1], meters.publish_to_write.sum) == (2, 2.25)
