from __future__ import annotations

import secrets

import pytest

from tests.engines.unkind import UnkindEngine
from tests.simulation import Simulation, seed_of
from triocast import GapReason


@pytest.mark.parametrize("seed", [seed_of(1), seed_of(2)])
def test_a_thousand_clients_see_order_and_no_silent_loss_and_leave_nothing_behind(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    # A simulation in which nothing happens proves nothing.
    assert simulation.joins > 1000
    assert min(simulation.stalls, simulation.cuts, simulation.evictions, simulation.gaps) > 20
    assert simulation.refusals > 0
    assert simulation.reasons == {GapReason.SLOW, GapReason.SUPERSEDED}


def test_a_simulation_with_a_seed_nobody_chose() -> None:
    Simulation(seed_of(secrets.randbits(32)), clients=200, length=30).run()


def test_a_seed_replays_the_same_run() -> None:
    first, again, other = (Simulation(seed, clients=100, length=20).run() for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", [seed_of(3), seed_of(4)])
def test_an_unkind_engine_changes_nothing_of_that(seed: int) -> None:
    simulation = Simulation(seed, clients=150, length=40)
    simulation.make_engine = lambda settings: UnkindEngine(settings, seed)
    simulation.run()
    assert simulation.joins > 20
