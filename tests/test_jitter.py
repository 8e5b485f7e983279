"""Clients on a bad network, in virtual time: cut off again and again, they miss nothing that the defaults can keep."""

from __future__ import annotations

from tests.jitter import Outcome, Traveller, jitter
from triocast.testing import run_seeded


def test_whoever_is_cut_off_again_and_again_is_given_everything_in_order_and_nothing_twice() -> None:
    clients, seconds = 100, 60.0
    outcome = run_seeded(jitter, clients, seconds, seed=1)
    assert outcome.cuts > 3 * clients
    assert outcome == Outcome(clients, int(seconds * 20), outcome.cuts, clients * 1200, doubles=0, gaps=0, disorders=0)
    assert outcome.whole


def test_what_went_wrong_is_counted() -> None:
    travellers = [Traveller(1), Traveller(2)]
    travellers[0].offsets, travellers[1].offsets = [1, 2, 3, 4], [1, 3, 2, 2]
    travellers[1].gaps = 1
    outcome = Outcome.of(travellers, 4)
    assert (outcome.delivered, outcome.doubles, outcome.gaps, outcome.disorders) == (7, 1, 1, 1)
    assert not outcome.whole
    assert "87.5 % delivered, 1 out of order, 1 doubles, 1 gaps" in str(outcome)
