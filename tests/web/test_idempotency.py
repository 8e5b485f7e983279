"""Publishing over HTTP with an idempotency key: what a repeat is answered, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from quart_trio import QuartTrio

from triocast import GroupSettings, Settings, Triocast
from triocast.testing import World, simulate
from triocast.web import create_app, routes


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        yield world


async def publish(world: World, query: str, data: bytes = b"hello", **headers: str) -> tuple[int, dict[str, Any]]:
    content_type = {"Content-Type": headers["kind"]} if headers else {}
    response = await world.http.post(f"/publish/sample?{query}", data=data, headers=content_type)
    return response.status_code, msgspec.json.decode(await response.get_data(as_text=False))


async def test_a_repeat_is_answered_with_the_first_receipt_and_reaches_nobody() -> None:
    async with served() as world:
        client = await world.connect("/ws/sample")
        status, first = await publish(world, "idempotency_key=k%2B1")
        assert (status, first["offset"], "repeated" in first) == (200, 1, False)
        assert await publish(world, "idempotency_key=k%2B1") == (200, first | {"repeated": True})
        await publish(world, "", b"another")
        assert [await client.receive(), await client.receive()] == ["hello", "another"]


async def test_a_get_is_a_publish_too() -> None:
    async with served() as world:
        first = await (await world.http.get("/publish/sample?msg=hello&idempotency_key=k")).get_json()
        assert await publish(world, "idempotency_key=k") == (200, first | {"repeated": True})


async def test_the_routes_in_an_application_do_the_same() -> None:
    app = QuartTrio(__name__)
    app.register_blueprint(routes(Triocast(app, harden=False)))
    async with simulate(app) as world:
        _, first = await publish(world, "idempotency_key=k")
        assert await publish(world, "idempotency_key=k") == (200, first | {"repeated": True})
        assert (await publish(world, "idempotency_key="))[0] == 400


@pytest.mark.parametrize(
    ("query", "data", "kind"),
    [
        ("idempotency_key=k", b"2", "text/plain"),
        ("idempotency_key=k", b"1", "application/json"),
        ("idempotency_key=k&key=EUR", b"1", "text/plain"),
    ],
)
async def test_another_message_with_the_same_key_is_422(query: str, data: bytes, kind: str) -> None:
    async with served() as world:
        await publish(world, "idempotency_key=k", b"1")
        status, answer = await publish(world, query, data, kind=kind)
        assert (status, answer["error"]["code"]) == (422, "idempotency_conflict")
        assert (await publish(world, "idempotency_key=k", b"1"))[1]["offset"] == 1


@pytest.mark.parametrize(
    "query",
    [
        "idempotency_key",
        "idempotency_key=",
        "idempotency_key=a+b",
        "idempotency_key=%C3%A9",
        "idempotency_key=%00",
        "idempotency_key=" + 256 * "x",
    ],
)
async def test_a_bad_key_is_400_with_the_rule_and_publishes_nothing(query: str) -> None:
    async with served() as world:
        status, answer = await publish(world, query)
        assert (status, answer["error"]["code"]) == (400, "invalid_idempotency_key")
        assert "1 to 255 printable ASCII characters without spaces" in answer["error"]["message"]
        assert (await publish(world, ""))[1]["offset"] == 1


async def test_two_keys_are_400() -> None:
    async with served() as world:
        status, answer = await publish(world, "idempotency_key=a&idempotency_key=a")
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert "once" in answer["error"]["message"]


async def test_a_refusal_is_not_remembered() -> None:
    async with served(max_message=10) as world:
        assert (await publish(world, "idempotency_key=k", 11 * b"x"))[0] == 413
        assert (await publish(world, "idempotency_key=k", b"\xff"))[0] == 400
        status, receipt = await publish(world, "idempotency_key=k", b"short")
        assert (status, receipt["offset"], "repeated" in receipt) == (200, 1, False)


async def test_a_key_too_many_is_503_with_when_to_try_again() -> None:
    async with served(idempotency_keys=1) as world:
        await publish(world, "idempotency_key=a")
        response = await world.http.post("/publish/sample?idempotency_key=b", data=b"hello")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert (await response.get_json())["error"]["code"] == "too_many_keys"
        assert (await publish(world, "idempotency_key=a"))[1]["repeated"] is True


async def test_what_clients_publish_has_no_keys_and_comes_as_often_as_it_is_sent() -> None:
    async with served(client_publish=True, allowed_origins=("*",)) as world:
        client = await world.connect("/ws/sample")
        await client.send("hello")
        await client.send("hello")
        assert [await client.receive(), await client.receive()] == ["hello", "hello"]
        assert world.app.extensions["triocast"].hub.idempotency_keys == 0


async def test_repeats_and_keys_are_counted() -> None:
    async with served(namespaces=MappingProxyType({"chat": GroupSettings()})) as world:
        for key in ("a", "a", "a", "b"):
            await world.http.post(f"/publish/chat:1?idempotency_key={key}", data=b"x")
        page = await (await world.http.get("/metrics")).get_data(as_text=True)
        samples = [sample for family in parse(page) for sample in family.samples]
        found = {sample.name: sample.value for sample in samples if sample.labels.get("namespace", "chat") == "chat"}
        assert found["triocast_idempotency_keys"] == 2
        assert found["triocast_repeated_messages_total"] == 2
        assert found["triocast_published_messages_total"] == 2
        assert found["triocast_published_bytes_total"] == 2
