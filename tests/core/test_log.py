from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import Gap, GapReason, Kind, Message, Position
from triocast.core.log import ENCODINGS_KEPT, Bounds, Entry, GroupLog
from triocast.core.message import OVERHEAD


def message(offset: int, size: int = 0) -> Message:
    return Message("g", "e", offset, Kind.BINARY, bytes(size))


def filled(count: int, bounds: Bounds, size: int = 0) -> GroupLog:
    log = GroupLog(Position("e", 0), bounds)
    for offset in range(1, count + 1):
        log.append(message(offset, size), now=0.0)
    return log


def offsets(entries: list[Entry]) -> list[int]:
    return [entry.offset for entry in entries if isinstance(entry, Message)]


def test_a_new_log_stands_at_its_start_and_holds_nothing() -> None:
    log = GroupLog(Position("e", 41), Bounds(10, 10_000))
    assert (log.top, log.bottom, len(log), log.weight) == (41, 42, 0, 0)
    assert log.read(41, 1000) == []


def test_messages_are_read_after_the_cursor_in_order() -> None:
    assert offsets(filled(5, Bounds(10, 10_000)).read(2, 10_000)) == [3, 4, 5]


def test_the_oldest_go_when_there_are_too_many() -> None:
    log = filled(5, Bounds(3, 10_000))
    assert (log.bottom, log.top, len(log)) == (3, 5, 3)


def test_the_oldest_go_when_they_weigh_too_much() -> None:
    log = filled(5, Bounds(100, 2 * (OVERHEAD + 10)), size=10)
    assert (log.bottom, len(log)) == (4, 2)


def test_the_newest_stays_whatever_it_weighs() -> None:
    log = filled(2, Bounds(10, 100), size=5000)
    assert offsets(log.read(0, 1)) == [2]


def test_a_log_that_keeps_nothing_still_knows_its_position() -> None:
    log = filled(3, Bounds(0, 10_000))
    assert (len(log), log.position, log.bottom) == (0, Position("e", 3), 4)


def test_a_read_takes_what_fits_the_budget_and_at_least_one() -> None:
    log = filled(5, Bounds(10, 10_000), size=100 - OVERHEAD)
    assert offsets(log.read(0, 250)) == [1, 2]
    assert offsets(log.read(0, 300)) == [1, 2, 3]
    assert offsets(log.read(0, 1)) == [1]


def test_entries_that_do_not_follow_are_refused() -> None:
    log = filled(2, Bounds(10, 10_000))
    for wrong in (message(2), message(4), Message("g", "other", 3, Kind.TEXT, b"")):
        with pytest.raises(ValueError, match="does not follow"):
            log.append(wrong, 0.0)


def test_a_gap_stands_for_the_offsets_it_names() -> None:
    log = filled(2, Bounds(10, 10_000))
    gap = Gap("g", "e", 3, 9, GapReason.LOST)
    log.append(gap, 0.0)
    log.append(message(10), 0.0)
    assert log.read(2, 10_000)[0] == gap
    assert offsets(log.read(0, 10_000)) == [1, 2, 10]
    assert offsets(log.page(0, 10)) == [1, 2, 10]


def test_messages_over_their_age_go_and_the_position_stays() -> None:
    log = GroupLog(Position("e", 0), Bounds(10, 10_000, age=60.0))
    log.append(message(1), now=0.0)
    log.append(message(2), now=50.0)
    log.expire(60.0)
    assert (log.bottom, log.top) == (2, 2)
    log.expire(1000.0)
    assert (len(log), log.top, log.weight) == (0, 2, 0)


def test_encodings_are_kept_for_the_newest_only() -> None:
    log = GroupLog(Position("e", 0), Bounds(1000, 1_000_000))
    entries = [message(offset) for offset in range(1, ENCODINGS_KEPT + 11)]
    made: list[int] = []

    def encode(each: Message) -> int:
        made.append(each.offset)
        return each.offset

    for entry in entries:
        entry.encoded(encode)
        log.append(entry, 0.0)
    made.clear()
    for entry in entries:
        entry.encoded(encode)
    assert made == list(range(1, 11))


# A model: everything ever appended in one list, and the rule applied to it from scratch.


@dataclass
class Model:
    bounds: Bounds
    entries: list[tuple[Entry, int, float]]  # with weight and time

    def held(self, now: float) -> list[Entry]:
        kept: list[Entry] = []
        weight = 0
        for entry, size, at in reversed(self.entries):
            weight += size
            newest = not kept
            full = len(kept) >= self.bounds.count or (weight > self.bounds.weight and not newest)
            old = self.bounds.age is not None and at <= now - self.bounds.age
            if full or old:
                break
            kept.append(entry)
        return kept[::-1]


steps = st.lists(
    st.tuples(
        st.sampled_from(["message", "message", "message", "gap", "expire"]),
        st.integers(0, 300),
        st.sampled_from([0.0, 0.1, 1.0, 7.0]),
    ),
    max_size=300,
)


@given(
    steps,
    st.integers(0, 12),
    st.integers(1, 2000),
    st.sampled_from([None, 3.0]),
    st.integers(0, 400),
    st.integers(1, 1500),
)
def test_a_log_holds_and_reads_exactly_what_its_bounds_allow(
    plan: list[tuple[str, int, float]], count: int, weight: int, age: float | None, cursor: int, budget: int
) -> None:
    bounds = Bounds(count, weight, age)
    log, model, now = GroupLog(Position("e", 0), bounds), Model(bounds, []), 0.0
    for step, size, passed in plan:
        now += passed
        if step == "expire":
            log.expire(now)
            continue
        entry: Entry
        if step == "message":
            entry = message(log.top + 1, size)
            model.entries.append((entry, entry.weight, now))
        else:
            entry = Gap("g", "e", log.top + 1, log.top + 1 + size, GapReason.LOST)
            model.entries.append((entry, 0, now))
        log.append(entry, now)
    log.expire(now)
    held = model.held(now)
    assert log.read(0, 10**9) == held
    assert len(log) == len(held)
    assert log.weight == sum(entry.weight for entry in held if isinstance(entry, Message))
    if held:
        first = held[0]
        assert log.bottom == (first.offset if isinstance(first, Message) else first.first)
    else:
        assert log.bottom == log.top + 1
    cursor = min(cursor, log.top)
    after = [entry for entry in held if (entry.offset if isinstance(entry, Message) else entry.last) > cursor]
    assert log.weight_after(cursor) == sum(entry.weight for entry in after if isinstance(entry, Message))
    assert log.page(cursor, 5) == [entry for entry in after[:5] if isinstance(entry, Message)]
    before = [entry for entry in held if (entry.offset if isinstance(entry, Message) else entry.last) < cursor]
    assert log.page_back(cursor, 5) == [entry for entry in before[:-6:-1] if isinstance(entry, Message)]
    assert log.page_back(None, 5) == [entry for entry in held[:-6:-1] if isinstance(entry, Message)]
    read = log.read(cursor, budget)
    assert read == after[: len(read)]
    weights = [entry.weight if isinstance(entry, Message) else 0 for entry in after]
    assert sum(weights[: len(read)]) <= budget or len(read) == 1
    assert len(read) == len(after) or sum(weights[: len(read) + 1]) > budget
