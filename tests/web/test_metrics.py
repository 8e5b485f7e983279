"""`GET /metrics`: what Prometheus reads is what has happened, to whoever may look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio
import trio.testing
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from triocast import GroupSettings, Happening, Policy, Settings, Triocast
from triocast.testing import Client, World, simulate
from triocast.web import create_app

Numbers = dict[str, float]
NAMESPACES = MappingProxyType(
    {"strict": GroupSettings(policy=Policy.DISCONNECT, max_lag=3), "loose": GroupSettings(max_lag=3)}
)


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(namespaces=NAMESPACES, **values), harden=False)) as world:
        yield world


async def member(world: World, group: str) -> Client:
    client = await world.connect(f"/ws/{group}", {})
    await trio.testing.wait_all_tasks_blocked()
    return client


async def publish(world: World, group: str, messages: int = 1) -> None:
    push: Triocast = world.app.extensions["triocast"]
    for _ in range(messages):
        await push.group(group).send("12345")
    await trio.testing.wait_all_tasks_blocked()


async def scrape(world: World) -> Numbers:
    """Return every sample by its name and labels, as `name{a=1,b=2}` with what is not empty."""
    response = await world.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert response.headers["Cache-Control"] == "no-store"
    samples = [sample for family in parse(await response.get_data(as_text=True)) for sample in family.samples]
    return {_shown(sample.name, sample.labels): sample.value for sample in samples}


def _shown(name: str, labels: dict[str, str]) -> str:
    given = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if value)
    return f"{name}{{{given}}}" if given else name


async def test_it_shows_who_is_there() -> None:
    async with served() as world:
        for group in ("plain", "loose:1", "loose:1", "loose:2", "unknown:1"):
            await member(world, group)
        numbers = await scrape(world)
        assert numbers["triocast_connections"] == 5
        assert numbers["triocast_groups"] == 1
        assert numbers["triocast_groups{namespace=loose}"] == 2
        assert numbers["triocast_groups{namespace=other}"] == 1
        assert numbers["triocast_subscriptions{namespace=loose}"] == 3
        assert numbers["triocast_subscriptions{namespace=strict}"] == 0


async def test_it_shows_what_was_published_and_delivered() -> None:
    async with served() as world:
        clients = [await member(world, "plain") for _ in range(3)]
        await publish(world, "plain", 2)
        await publish(world, "nobody:there")
        for client in clients:
            assert [await client.receive(), await client.receive()] == ["12345", "12345"]
        numbers = await scrape(world)
        assert numbers["triocast_published_messages_total"] == 2
        assert numbers["triocast_published_bytes_total"] == 10
        assert numbers["triocast_published_messages_total{namespace=other}"] == 1
        assert numbers["triocast_delivered_messages_total"] == 6
        assert numbers["triocast_delivered_bytes_total"] == 30
        assert numbers["triocast_delivered_messages_total{namespace=other}"] == 0


async def test_it_shows_who_is_behind_and_what_they_lose() -> None:
    async with served() as world:
        slow, _ = await member(world, "loose:1"), await member(world, "loose:1")
        slow.stall()
        await publish(world, "loose:1", 6)
        numbers = await scrape(world)
        assert numbers["triocast_behind_subscriptions{namespace=loose}"] == 1
        behind = numbers["triocast_lag_messages{namespace=loose}"]
        assert behind > 3
        slow.resume()
        await trio.testing.wait_all_tasks_blocked()
        numbers = await scrape(world)
        assert numbers["triocast_behind_subscriptions{namespace=loose}"] == 0
        assert numbers["triocast_lag_messages{namespace=loose}"] == 0
        assert numbers["triocast_dropped_messages_total{namespace=loose,policy=drop_oldest}"] == behind - 3


async def test_it_shows_who_was_ended_and_why() -> None:
    async with served() as world:
        slow = await member(world, "strict:1")
        slow.stall()
        await publish(world, "strict:1", 6)
        numbers = await scrape(world)
        assert numbers["triocast_evictions_total{reason=too_slow}"] == 1
        assert numbers["triocast_evictions_total{reason=ping_timeout}"] == 0
        slow.resume()  # it hears of it, and nobody waits for it any longer


async def test_it_shows_who_watches_and_what_hooks_did() -> None:
    async with served(hook_queue=1) as world:
        push: Triocast = world.app.extensions["triocast"]
        hold = trio.Event()

        @push.on_join
        async def fails(happening: Happening) -> None:
            await hold.wait()
            raise KeyError(happening.group)

        await world.connect("/ws/loose:1?presence=1&format=json")
        for _ in range(3):
            await member(world, "loose:1")
        numbers = await scrape(world)
        assert numbers["triocast_watching_subscriptions{namespace=loose}"] == 1
        assert numbers["triocast_hooks_waiting"] == 1
        assert numbers["triocast_hook_drops_total{hook=join}"] == 2
        assert numbers["triocast_hook_failures_total{hook=join}"] == 0
        hold.set()
        await trio.testing.wait_all_tasks_blocked()
        numbers = await scrape(world)
        assert numbers["triocast_hooks_waiting"] == 0
        assert numbers["triocast_hook_failures_total{hook=join}"] == 2
        assert numbers["triocast_hook_drops_total{hook=leave}"] == 0


async def test_what_a_group_counted_outlives_it() -> None:
    async with served() as world:
        client = await member(world, "plain")
        await publish(world, "plain")
        await client.close()
        await trio.testing.wait_all_tasks_blocked()
        numbers = await scrape(world)
        assert numbers["triocast_groups"] == 0
        assert numbers["triocast_delivered_messages_total"] == 1


async def test_rounds_and_the_way_from_publish_to_write_are_timed() -> None:
    async with served() as world:
        await member(world, "plain")
        await publish(world, "plain", 3)
        numbers = await scrape(world)
        assert numbers["triocast_broadcast_round_seconds_count"] == 3
        assert numbers["triocast_broadcast_round_seconds_bucket{le=+Inf}"] == 3
        assert numbers["triocast_publish_to_write_seconds_count"] == 3


async def test_an_unknown_group_name_makes_no_series() -> None:
    async with served() as world:
        before = await scrape(world)
        for number in range(20):
            await publish(world, f"made-up-{number}:x")
        assert set(await scrape(world)) == set(before)


async def test_openmetrics_is_spoken_to_those_who_ask_for_it() -> None:
    async with served() as world:
        await publish(world, "plain")
        response = await world.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        names = {family.name for family in parse_openmetrics(await response.get_data(as_text=True))}
        assert {"triocast_published_messages", "triocast_connections", "process_cpu_seconds"} <= names


async def test_every_metric_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    async with served() as world:
        response = await world.http.get("/metrics")
        families = list(parse(await response.get_data(as_text=True)))
        ours = [family for family in families if family.name.startswith("triocast_")]
        assert len(ours) == 21
        for family in ours:
            assert f"`{family.name}{'_total' if family.type == 'counter' else ''}`" in page


async def test_two_applications_in_one_process_do_not_meet() -> None:
    async with served() as one, served() as other:
        await publish(one, "plain")
        assert (await scrape(one))["triocast_published_messages_total"] == 1
        assert (await scrape(other))["triocast_published_messages_total"] == 0


async def test_it_needs_the_key_where_one_is_set() -> None:
    async with served(api_key="secret") as world:
        assert (await world.http.get("/metrics")).status_code == 401
        response = await world.http.get("/metrics", headers={"Authorization": "Bearer secret"})
        assert response.status_code == 200


async def test_without_a_key_it_is_for_this_machine_only() -> None:
    async with served() as world:
        response = await world.http.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"})
        assert response.status_code == 403
