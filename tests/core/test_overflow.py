from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import Gap, GapReason, Kind, Message, Policy, Position
from triocast.core.log import Bounds, GroupLog
from triocast.core.overflow import Evict, Skip, judge


def log_of(count: int, held: int) -> GroupLog:
    log = GroupLog(Position("e", 0), Bounds(held, 10**9))
    for offset in range(1, count + 1):
        log.append(Message("g", "e", offset, Kind.TEXT, b""), 0.0)
    return log


@pytest.mark.parametrize("policy", list(Policy))
@given(cursor=st.integers(10, 20))
def test_whoever_lags_by_no_more_than_allowed_reads_on(policy: Policy, cursor: int) -> None:
    assert judge(policy, "g", cursor, log_of(20, held=10)) is None


@given(cursor=st.integers(0, 9))
def test_drop_oldest_skips_to_the_oldest_allowed_and_names_what_was_missed(cursor: int) -> None:
    assert judge(Policy.DROP_OLDEST, "g", cursor, log_of(20, held=10)) == Skip(
        Gap("g", "e", cursor + 1, 10, GapReason.SLOW)
    )


@given(cursor=st.integers(0, 9))
def test_disconnect_evicts_and_says_how_far_behind(cursor: int) -> None:
    assert judge(Policy.DISCONNECT, "g", cursor, log_of(20, held=10)) == Evict(20 - cursor)
