from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from tests.simulation import Simulation, crowd, seed_of
from triocast import GapReason
from triocast.hub import Hub
from triocast.meters import Eviction


def check_that_much_happened(simulation: Simulation) -> None:
    """A simulation in which nothing happens proves nothing."""
    assert simulation.joins > 1000
    assert simulation.partial > 500
    assert min(simulation.stalls, simulation.refusals, simulation.forgotten) > 5
    # Pins run out in most runs, but not in each.
    wanted = (Eviction.TOO_SLOW, Eviction.WRITE_TIMEOUT, Eviction.MISSED)
    assert all(simulation.evictions[why] for why in wanted)
    assert all(simulation.reasons[reason] for reason in GapReason)
    # Clients come back to where they were, and to everything else, from being cut off anywhere.
    assert simulation.recovered > 5000
    assert min(simulation.cuts[what] for what in ("halfway", "recovering", "live")) > 5
    assert min(simulation.wishes[wish] for wish in ("known", "Position", "Last", "NoneType")) > 50
    assert simulation.cleared > 5
    assert simulation.delivered > 50
    # Members come and go, and come back in time; those who want to know are told too much; hooks and handlers fail.
    assert min(simulation.moves, simulation.resets) > 25
    assert sum(company.leaves for company in simulation.companies.values()) > 500
    assert min(simulation.crashes, simulation.witness.failures) > 2


@pytest.mark.parametrize("seed", [seed_of(1), seed_of(2)])
def test_everybody_is_given_what_the_policies_say_at_the_moment_they_say_and_nothing_is_left(seed: int) -> None:
    simulation = Simulation(seed, clients=110)
    simulation.run()
    check_that_much_happened(simulation)


def test_clients_may_come_and_go_in_the_middle_of_rounds() -> None:
    # So many in one group that others get their turn between the slices of a round.
    simulation = Simulation(seed_of(3), clients=300, length=12, rate=4, cost=0.0003, calm=0.5, groups=("news",))
    simulation.run()
    assert simulation.joins > 1000
    assert simulation.partial > 500


def test_clients_that_stall_for_minutes_come_back_to_what_their_policy_left_them() -> None:
    simulation = Simulation(seed_of(14), clients=40, length=240, rate=12, calm=6, write_timeout=240)
    simulation.run()
    assert min(simulation.reasons[reason] for reason in (GapReason.SLOW, GapReason.SUPERSEDED)) > 20


def test_a_crowd_is_served_in_the_same_way() -> None:
    simulation = crowd(seed_of(5), clients=250)
    simulation.run()
    assert simulation.told > 5_000
    assert simulation.recovered > 1_000


@pytest.mark.parametrize(("seed", "cost"), [(seed_of(6), 0.0), (seed_of(7), 0.0005)])
def test_an_unkind_engine_changes_nothing_of_that(seed: int, cost: float) -> None:
    simulation = Simulation(seed, clients=80, cost=cost, unkind=True)
    simulation.run()
    assert simulation.joins > 500
    assert simulation.recovered > 3_000
    assert simulation.delivered > 30
    assert simulation.reasons[GapReason.LOST] > 20


def test_a_store_to_which_the_way_is_long_changes_nothing_of_that_either() -> None:
    simulation = Simulation(seed_of(8), clients=80, length=30, far=True)
    simulation.run()
    assert simulation.recovered > 3_000


def test_a_simulation_with_a_seed_nobody_chose() -> None:
    Simulation(seed_of(secrets.randbits(32)), clients=80, length=30).run()


def test_a_failure_says_how_to_replay_it() -> None:
    class Doomed(Simulation):
        def _check_nothing_left(self, hub: Hub) -> None:
            raise AssertionError

    with pytest.raises(BaseException) as failure:  # noqa: PT011 - whatever it is
        Doomed(9, clients=1, length=1).run()
    (note,) = failure.value.__notes__
    assert "TRIOCAST_SIM_SEED=9" in note
    assert "Simulation(seed=9, clients=1, length=1," in note


def test_a_seed_replays_the_same_run_in_any_process() -> None:
    first, other = (Simulation(seed, clients=50, length=15, cost=0.0005).run() for seed in (7, 8))
    assert first != other
    replay = "from tests.simulation import Simulation; print(Simulation(7, clients=50, length=15, cost=0.0005).run())"
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        again = subprocess.run([sys.executable, "-c", replay], env=env, capture_output=True, text=True, check=True)
        assert again.stdout.strip() == first
