"""Where a client that comes back begins: every case by a table, and all of them against what was published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.core.message import Gap, GapReason, Position
from triocast.core.positions import parse_position, parse_since
from triocast.core.recovery import OLDEST, Beginning, Last, Wish, begin, correct, wish_of, wishes_of
from triocast.errors import InvalidPosition

AT = Position("now", 100)


def gap(first: int, last: int, reason: GapReason, before: str | None = None) -> Gap:
    return Gap("g", "now", first, last, reason, before)


@pytest.mark.parametrize(
    ("wish", "oldest", "expected"),
    [
        (Position("now", 100), 101, Beginning(100)),
        (Position("now", 90), 91, Beginning(90)),
        (Position("now", 90), 95, Beginning(94, gap(91, 94, GapReason.LOST))),
        (Position("now", 90), 101, Beginning(100, gap(91, 100, GapReason.LOST))),
        (Position("now", 50), 51, Beginning(50)),
        (Position("now", 49), 51, Beginning(50, gap(50, 50, GapReason.LIMIT))),
        (Position("now", 10), 51, Beginning(50, gap(11, 50, GapReason.LIMIT))),
        (Position("now", 10), 71, Beginning(70, gap(11, 70, GapReason.LIMIT))),
        (Position("old", 90), 51, Beginning(50, gap(1, 50, GapReason.EPOCH, "old"))),
        (Position("old", 90), 101, Beginning(100, gap(1, 100, GapReason.EPOCH, "old"))),
        (Position("now", 101), 51, Beginning(50, gap(1, 50, GapReason.EPOCH, "now"))),
        (OLDEST, 50, Beginning(50, gap(1, 50, GapReason.LIMIT))),
        (OLDEST, 51, Beginning(50)),
        (OLDEST, 71, Beginning(70)),
        (OLDEST, 101, Beginning(100)),
        (Last(3), 98, Beginning(97)),
        (Last(3), 100, Beginning(99)),
        (Last(3), 101, Beginning(100)),
        (Last(1000), 51, Beginning(50)),
    ],
)
def test_where_a_client_begins(wish: Wish, oldest: int, expected: Beginning) -> None:
    assert correct(begin("g", wish, AT, 50), "g", wish, AT, oldest) == expected


def test_who_asks_for_the_oldest_misses_nothing_by_what_was_gone_before() -> None:
    assert correct(begin("g", OLDEST, AT, 1000), "g", OLDEST, AT, 41) == Beginning(40)


@given(
    st.one_of(
        st.builds(Position, st.sampled_from(["now", "old"]), st.integers(0, 30)),
        st.just(OLDEST),
        st.builds(Last, st.integers(1, 30)),
    ),
    st.integers(0, 25),
    st.integers(1, 40),
    st.integers(0, 30),
)
def test_what_is_given_and_what_is_named_cover_all_that_was_missed(wish: Wish, top: int, limit: int, kept: int) -> None:
    at = Position("now", top)
    first = begin("g", wish, at, limit)
    oldest = max(first.after, top - kept) + 1
    found = correct(first, "g", wish, at, oldest)
    assert 0 <= found.after <= top or (isinstance(wish, Position) and found.after == wish.offset == top)
    assert top - found.after <= min(limit, kept)
    if found.gap is not None:
        assert found.gap.last == found.after
        assert not isinstance(wish, Last)
    if isinstance(wish, Position) and wish.epoch == "now" and wish.offset <= top:
        missed = range(wish.offset + 1, top + 1)
        named = range(found.gap.first, found.gap.last + 1) if found.gap else range(0)
        assert [*named, *range(found.after + 1, top + 1)] == [*missed]


@pytest.mark.parametrize(
    "text", ["", "x", ":1", "a:", "a:-1", "a:01", "a:1 ", "a b:1", "a:1:2", "a:9223372036854775808"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidPosition):
        parse_position(text)
    with pytest.raises(InvalidPosition):
        parse_since(text)


@given(st.from_regex(r"[A-Za-z0-9._~-]{1,64}", fullmatch=True), st.integers(0, 2**63 - 1))
def test_positions_are_read_as_they_are_written(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert parse_position(str(position)) == parse_since(str(position)) == position


def test_zero_is_before_everything() -> None:
    assert parse_since("0") == OLDEST
    with pytest.raises(InvalidPosition):
        parse_position("0")


def test_one_says_since_or_last() -> None:
    assert wish_of(None, None) is None
    assert wish_of(AT, None) == AT
    assert wish_of(None, 3) == Last(3)
    with pytest.raises(ValueError, match="not both"):
        wish_of(AT, 3)
    with pytest.raises(ValueError, match="at least 1"):
        wish_of(None, 0)
    assert wishes_of(["a", "b"], {"a": AT}, 3) == {"a": AT, "b": Last(3)}
