"""How long to wait before connecting again, and after which closes not to."""

import random

import pytest

from triocast.client.backoff import Backoff, BackoffSettings, may_come_back
from triocast.errors import CLOSES, ComeBack


class Extremes(random.Random):
    """A source of randomness that always gives the upper (or lower) end."""

    def __init__(self, *, upper):
        super().__init__()
        self.upper = upper

    def random(self):
        return 1.0 if self.upper else 0.0


def delays(number, *, upper=True, lasted=0.0, **settings):
    backoff = Backoff(BackoffSettings(**settings), Extremes(upper=upper))
    return [round(backoff.after(lasted), 6) for _ in range(number)]


def test_the_longest_wait_doubles_with_every_failure_up_to_a_cap():
    assert delays(7) == [1, 2, 4, 8, 16, 30, 30]


def test_the_shortest_wait_stays_the_floor():
    assert delays(7, upper=False) == [0.1] * 7


def test_a_connection_that_lasted_begins_anew_and_a_short_one_does_not():
    backoff = Backoff(BackoffSettings(), Extremes(upper=True))
    assert [backoff.after(lasted) for lasted in (0, 9.9, 10, 0)] == [1, 2, 1, 2]


def test_a_floor_above_the_ceiling_is_kept():
    assert delays(3, floor=5.0, first=1.0) == [5, 5, 5]


def test_waits_are_spread_over_the_whole_range_and_a_seed_repeats_them():
    backoffs = [Backoff(BackoffSettings(), random.Random(seed)) for seed in range(200)]
    first = [backoff.after(0) for backoff in backoffs]
    assert min(first) < 0.2
    assert max(first) > 0.9
    assert first == [Backoff(BackoffSettings(), random.Random(seed)).after(0) for seed in range(200)]


def test_a_thousand_failures_do_not_overflow():
    assert delays(1000)[-1] == 30


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 3000, 3499, 4000, 4010, 4499])
def test_these_closes_allow_to_come_back(code):
    assert may_come_back(code)


@pytest.mark.parametrize("code", [1000, 1008, 1009, 3500, 3503, 3999, 4500, 4999])
def test_these_closes_are_final(code):
    assert not may_come_back(code)


def test_of_the_servers_own_closes_the_table_decides():
    assert {close.code: may_come_back(close.code) for close in CLOSES} == {
        close.code: close.come_back is not ComeBack.NO for close in CLOSES
    }
