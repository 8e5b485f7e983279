"""Clients that poll now this process and now that, with a Valkey between them."""

from __future__ import annotations

from random import Random

import pytest
import trio

from tests.polling import Reader
from tests.redis_engines import PATIENCE, engine_at, serving
from tests.redis_servers import Server
from triocast import Draft, Position, Settings
from triocast.hub import Hub
from triocast.reception import Reception

pytestmark = pytest.mark.once

KEPT = Settings(history_size=10_000)
TRIMMED = Settings(history_size=4)


async def _publish(hubs: list[Hub], random: Random, published: dict[Position, str]) -> None:
    for number in range(150):
        await trio.sleep(random.choice([0, 0, 0.001, 0.01]))
        data = f"{number}"
        receipt = await random.choice(hubs).publish("g", Draft.of(data))
        published[Position(receipt.epoch, receipt.offset)] = data


async def _poll_on(reader: Reader, receptions: list[Reception], random: Random) -> None:
    while True:
        patience = random.choice([0, 0.001, 0.01]) if random.random() < 0.3 else float("inf")
        await reader.poll(random.choice(receptions), random.choice([0, 0.001, 0.05, 30]), patience=patience)
        await trio.sleep(random.choice([0, 0, 0.005]))


@pytest.mark.parametrize("settings", [KEPT, TRIMMED], ids=["kept", "trimmed"])
async def test_whichever_process_is_polled_nothing_is_lost_or_doubled(valkey: Server, settings: Settings) -> None:
    published: dict[Position, str] = {}
    async with serving(engine_at(valkey.port, settings)) as one, serving(engine_at(valkey.port, settings)) as other:
        receptions = [Reception(one), Reception(other)]
        readers = [Reader("g", Random(seed)) for seed in range(6)]
        async with trio.open_nursery() as nursery:
            for seed, reader in enumerate(readers):
                nursery.start_soon(_poll_on, reader, receptions, Random(seed))
            await _publish([one, other], Random(0), published)
            nursery.cancel_scope.cancel()
        for reader in readers:
            while await reader.poll(receptions[0], 0):
                pass
            reader.check(published)
            assert reader.seen
    assert any(reader.lost for reader in readers) == (settings is TRIMMED)


async def test_a_client_whose_group_begins_afresh_while_it_waits_is_told(valkey: Server) -> None:
    reader = Reader("g", Random(1))
    async with serving(engine_at(valkey.port, KEPT)) as one, serving(engine_at(valkey.port, KEPT)) as other:
        reception = Reception(one)
        before = await other.publish("g", Draft.of("before"))
        reader.at = Position(before.epoch, 0)
        assert await reader.poll(reception, 30) == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.poll, reception, 30)
            with trio.fail_after(PATIENCE):
                while not one.opened_groups():
                    await trio.sleep(0.001)
            valkey.admin.flushall()
            after = await other.publish("g", Draft.of("after"))
        while await reader.poll(reception, 0):
            pass
        assert (reader.at, [data for _, data in reader.seen]) == (Position(after.epoch, 1), ["before", "after"])
        assert after.epoch != before.epoch
