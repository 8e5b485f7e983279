"""Clients that poll again and again, with whatever waits, limits and cuts, see every offset once or in a gap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
import trio

from tests.engines.unkind import UnkindEngine
from tests.polling import Reader
from tests.test_told import running_hub
from triocast import Draft, Policy, Position, Settings
from triocast.core.recovery import Join
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.reception import Reception
from triocast.testing import run_seeded

POLLERS = 4
ALL_KEPT: dict[str, Any] = {"history_size": 10_000, "history_bytes": 10**8}
TRIMMED: dict[str, Any] = {
    "history_size": 5,
    "history_bytes": 150_000,
    "history_ttl": 5.0,
    "recovery_limit": 4,
    "position_ttl": 7.0,
    "max_lag": 4,
}
LAST_VALUES: dict[str, Any] = {**TRIMMED, "policy": Policy.LATEST, "join": Join.LAST}
MAKERS: dict[str, Callable[[int, Settings], MemoryEngine]] = {
    "kind": lambda _, settings: MemoryEngine(settings),
    "unkind": lambda seed, settings: UnkindEngine(settings, seed),
}


async def _publish(hub: Hub, random: Random, published: dict[Position, str]) -> None:
    for number in range(random.randint(20, 80)):
        await trio.sleep(random.choice([0, 0, 0, 0.001, 0.1, 1, 3]))
        if random.random() < 0.02:
            await trio.sleep(10)  # long enough for what is not polled to be forgotten
        data = f"{number} {'x' * random.choice([1, 1, 1, 40_000])}"
        receipt = await hub.publish("g", Draft.of(data, key=random.choice("abcdef")))
        published[Position(receipt.epoch, receipt.offset)] = data


async def _poll_on(reader: Reader, reception: Reception, random: Random) -> None:
    while True:
        patience = random.choice([0, 0.0005, 0.05, 2]) if random.random() < 0.3 else float("inf")
        slow = random.choice([0, 0, 0, 0.0001, 0.3])
        await reader.poll(reception, random.choice([0, 0.001, 0.5, 30]), patience=patience, slow=slow)
        await trio.sleep(random.choice([0, 0, 0, 0.01, 2, 9]))


async def _play(seed: int, make: Callable[[int, Settings], MemoryEngine], bounds: dict[str, Any]) -> list[Reader]:
    random = Random(seed)
    published: dict[Position, str] = {}
    async with running_hub(partial(make, seed), **bounds) as hub:
        reception = Reception(hub)
        readers = [Reader("g", Random(seed + number)) for number in range(POLLERS)]
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(_poll_on, reader, reception, Random(seed - len(readers)))
            await _publish(hub, random, published)
            await trio.sleep(3)  # what an engine has not delivered is fetched
            nursery.cancel_scope.cancel()
        for reader in readers:
            while await reader.poll(reception, 0):
                pass
            reader.check(published)
        assert (hub.connections, hub.groups) == (0, 0)
    return readers


@pytest.mark.parametrize("engine", MAKERS)
@pytest.mark.parametrize("seed", range(20))
def test_while_all_is_kept_every_message_comes_once(engine: str, seed: int) -> None:
    readers = run_seeded(_play, seed, MAKERS[engine], ALL_KEPT, seed=seed)
    assert not any(reader.lost for reader in readers)
    assert any(reader.seen for reader in readers)


@pytest.mark.parametrize("bounds", [TRIMMED, LAST_VALUES], ids=["history", "last values"])
@pytest.mark.parametrize("engine", MAKERS)
def test_what_is_trimmed_limited_or_forgotten_is_named_in_its_place(engine: str, bounds: dict[str, Any]) -> None:
    lost = seen = epochs = 0
    for seed in range(30):
        readers = run_seeded(_play, seed, MAKERS[engine], bounds, seed=seed)
        lost += sum(reader.lost for reader in readers)
        seen += sum(len(reader.seen) for reader in readers)
        epochs += sum(len({position.epoch for position, _ in reader.seen}) > 1 for reader in readers)
    assert lost
    assert seen
    assert epochs
