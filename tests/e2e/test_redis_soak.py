"""The soaks in short: servers of several processes on a Valkey that fails, and what their clients were given."""

from __future__ import annotations

import pytest

from tests.soak.cases import Outcome, Plan, aof, embedded, emptied, failover, rolling, workers
from tests.soak.load import Size
from tests.soak.machines import NotAllowed, machines

pytestmark = pytest.mark.once

# A few dozen messages between faults; how long an outage lasts is then a matter of when it is noticed.
SHORT = Plan(Size(clients=32, groups=8), between=0.3, faults=2, outage=0, timeout=1.0)


def assert_nothing_lost(outcome: Outcome) -> None:
    """Every client has all that was acknowledged, once and in order, and nobody was told of a loss that was none."""
    assert outcome.verdict.spotless, outcome
    assert outcome.verdict.epochs == 0, outcome


def assert_told_of_every_loss(outcome: Outcome) -> None:
    assert outcome.verdict.honest, outcome
    assert outcome.verdict.not_told == 0, outcome


@pytest.mark.parametrize("appendfsync", ["always", "no"])
async def test_a_valkey_with_a_file_is_killed_and_cut_off_and_nothing_acknowledged_is_lost(appendfsync: str) -> None:
    outcome = await aof(SHORT, appendfsync)
    assert outcome.load.refused
    assert_nothing_lost(outcome)


async def test_the_workers_own_valkey_is_killed_and_nothing_acknowledged_is_lost() -> None:
    outcome = await embedded(SHORT)
    assert_nothing_lost(outcome)


async def test_a_valkey_is_emptied_and_every_client_is_told() -> None:
    outcome = await emptied(SHORT)
    assert_told_of_every_loss(outcome)


async def test_a_replica_that_is_behind_takes_over_and_every_client_is_told() -> None:
    outcome = await failover(SHORT)
    assert_told_of_every_loss(outcome)


async def test_workers_are_killed_and_clients_that_come_back_miss_nothing() -> None:
    outcome = await workers(SHORT)
    assert_nothing_lost(outcome)


async def test_workers_are_replaced_and_nobody_is_refused_or_misses_anything() -> None:
    outcome = await rolling(Plan(SHORT.size, SHORT.between, faults=1, timeout=SHORT.timeout), workers=2)
    assert_nothing_lost(outcome)
    assert outcome.load.not_connected == 0, outcome
    assert outcome.load.connected


async def test_a_machine_is_cut_off_from_valkey_and_its_clients_are_given_what_they_missed() -> None:
    try:
        outcome = await machines(SHORT)
    except NotAllowed as error:
        pytest.skip(f"network namespaces: {error}")
    assert_nothing_lost(outcome)
