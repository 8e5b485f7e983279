"""Clients on a bad network, in virtual time: cut off again and again, they miss nothing that the defaults can keep."""

from __future__ import annotations

from tests.jitter import RATE, Traveller, counted, run

CLIENTS, SECONDS = 100, 60.0


def test_whoever_is_cut_off_again_and_again_is_given_everything_in_order_and_nothing_twice() -> None:
    travellers = run(CLIENTS, SECONDS)
    assert sum(each.cuts for each in travellers) > 3 * CLIENTS
    everything = [*range(1, int(SECONDS * RATE) + 1)]
    for each in travellers:
        assert each.offsets == everything
        assert not each.gaps


def test_what_the_benchmark_is_told_names_what_went_wrong() -> None:
    fine, twice, swapped = Traveller("", [1, 2, 3]), Traveller("", [1, 2, 2]), Traveller("", [2, 1, 3], gaps=1)
    assert counted([fine]) == {"clients": 1, "delivered": 3, "twice": 0, "damaged": 0, "gaps": 0, "cuts": 0}
    assert counted([twice])["twice"] == 1
    assert counted([swapped])["damaged"] == 1
    assert counted([swapped])["gaps"] == 1
