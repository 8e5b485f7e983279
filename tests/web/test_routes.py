"""The routes: what each request is answered, and that what is published arrives."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypercorn.middleware import ProxyFixMiddleware
from quart import Response
from quart_trio import QuartTrio

from triocast import GroupSettings, Policy, Settings, Triocast, web
from triocast.testing import Client, Closed, Refused, World, simulate
from triocast.web import blueprint, create_app, publish_routes, routes

JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def served(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        yield world


async def error_code(response: Response) -> str:
    body = msgspec.json.decode(await response.get_data(as_text=False))
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert response.headers["Content-Type"] == "application/json"
    code: str = body["error"]["code"]
    return code


async def member(world: World, path: str, headers: dict[str, str] | None = None) -> Client:
    """Connect, and return once the server has done all it does then: joined the groups, or closed."""
    client = await world.connect(path, headers or {})
    await trio.testing.wait_all_tasks_blocked()
    return client


def push_of(world: World) -> Triocast:
    push: Triocast = world.app.extensions["triocast"]
    return push


# Publishing


async def test_a_post_is_published_and_answered_with_a_receipt() -> None:
    async with served() as world:
        first, second = await member(world, "/ws/sample"), await member(world, "/ws/sample")
        response = await world.http.post("/publish/sample", data=b"hello")
        receipt = await response.get_json()
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert list(receipt) == ["group", "epoch", "offset", "subscribers", "behind"]
        assert (receipt["group"], receipt["offset"], receipt["subscribers"]) == ("sample", 1, 2)
        assert [await first.receive(), await second.receive()] == ["hello", "hello"]


@pytest.mark.parametrize(
    ("content_type", "body", "received"),
    [
        (None, b"text", "text"),
        ("text/plain", b"", ""),
        ("application/json", b'{"a":1}', '{"a":1}'),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        ("application/octet-stream", b"", b""),
        ("application/x-www-form-urlencoded", b"msg=hello+world", "hello world"),
        ("application/x-www-form-urlencoded", b"hello & bye", "hello & bye"),
    ],
)
async def test_every_kind_arrives_as_it_was_sent(content_type: str | None, body: bytes, received: str | bytes) -> None:
    async with served() as world:
        client = await member(world, "/ws/sample")
        headers = {"Content-Type": content_type} if content_type else {}
        await world.http.post("/publish/sample", data=body, headers=headers)
        assert await client.receive() == received


async def test_a_large_message_arrives_whole() -> None:
    async with served() as world:
        client = await member(world, "/ws/sample")
        text = "grüße " * 100_000
        response = await world.http.post("/publish/sample", form={"msg": text})
        assert response.status_code == 200
        assert await client.receive() == text
        spoiled = await world.http.post("/publish/sample", data=text.encode() + b"\xff")
        assert (spoiled.status_code, await error_code(spoiled)) == (400, "invalid_message")


async def test_a_get_publishes_text() -> None:
    async with served() as world:
        client = await member(world, "/ws/sample")
        response = await world.http.get("/publish/sample?msg=hello%20world")
        assert response.status_code == 200
        assert await client.receive() == "hello world"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("POST", "/publish/a%20b", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/a%2Fb", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/a/b", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish//b", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/a%0Ab", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/" + 256 * "x", {}, b"", 400, "invalid_group_name"),
        ("POST", "/publish/a", {}, b"\xff", 400, "invalid_message"),
        ("POST", "/publish/a", JSON, b"{", 400, "invalid_message"),
        ("POST", "/publish/a", {"Content-Type": "image/png"}, b"", 415, "unsupported_media_type"),
        ("POST", "/publish/a", {"Content-Encoding": "gzip"}, b"", 415, "unsupported_media_type"),
        ("POST", "/publish/a", {"Content-Type": "text/plain; charset=latin-1"}, b"", 415, "unsupported_media_type"),
        ("POST", "/publish/a", {}, 101 * b"x", 413, "message_too_large"),
        ("GET", "/publish/a", {}, b"", 400, "invalid_message"),
        ("GET", "/publish/a?msg=" + 101 * "x", {}, b"", 413, "message_too_large"),
        ("PUT", "/publish/a", {}, b"", 405, "method_not_allowed"),
        ("POST", "/groups", {}, b"", 405, "method_not_allowed"),
        ("GET", "/groups?limit=0", {}, b"", 400, "bad_request"),
        ("GET", "/groups?limit=1001", {}, b"", 400, "bad_request"),
        ("GET", "/groups?limit=1&limit=2", {}, b"", 400, "bad_request"),
        ("GET", "/groups?after=a&after=b", {}, b"", 400, "bad_request"),
        ("GET", "/groups/a%20b", {}, b"", 400, "invalid_group_name"),
        ("GET", "/ws/a", {}, b"", 400, "bad_request"),
        ("GET", "/nothing", {}, b"", 404, "not_found"),
        ("POST", "/publish/a", {"Host": "a..b"}, b"", 400, "bad_request"),
        ("POST", "/publish/a", {"X-Forwarded-For": "1.2.3.4"}, b"", 403, "key_required"),
        ("POST", "/publish/a", {"Sec-Fetch-Site": "cross-site"}, b"", 403, "foreign_origin"),
        ("POST", "/publish/a", {"Origin": "https://evil.example"}, b"", 403, "foreign_origin"),
        ("GET", "/groups", {"Via": "1.1 proxy"}, b"", 403, "key_required"),
        ("GET", "/groups/a", {"Via": "1.1 proxy"}, b"", 403, "key_required"),
    ],
)
async def test_bad_requests_are_answered_with_what_was_wrong(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    async with served(max_message=100) as world:
        response = await world.http.open(path, method=method, headers=headers, data=body)
        assert (response.status_code, await error_code(response)) == (status, code)
        assert (await push_of(world).hub.info("a")).offset == 0


async def test_head_does_not_publish() -> None:
    async with served() as world:
        assert (await world.http.head("/publish/sample?msg=hello")).status_code == 405
        assert (await push_of(world).hub.info("sample")).offset == 0


async def test_a_wrong_method_is_answered_with_the_right_ones() -> None:
    async with served() as world:
        response = await world.http.delete("/publish/sample")
        assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))
        options = await world.http.options("/publish/sample")
        assert options.status_code == 200
        assert {"GET", "POST"} <= set(options.headers["Allow"].split(", "))


async def test_a_percent_encoded_name_is_decoded_once() -> None:
    async with served() as world:
        await world.http.post("/publish/100%25%2541", data=b"hello")
        assert (await push_of(world).hub.info("100%%41")).offset == 1


async def test_on_a_socket_beyond_loopback_nobody_publishes_without_a_key() -> None:
    async with served() as world:
        far = {"server": ("192.168.1.5", 8000), "client": ("192.168.1.6", 5000)}
        response = await world.http.post("/publish/a", data=b"", scope_base=far)
        assert (response.status_code, await error_code(response)) == (403, "key_required")


async def test_on_loopback_another_host_is_dns_rebinding() -> None:
    async with served() as world:
        near = {"server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5000)}
        response = await world.http.post("/publish/a", scope_base=near, headers={"Host": "evil.example"})
        assert (response.status_code, await error_code(response)) == (403, "foreign_host")
        assert (await world.http.post("/publish/a", scope_base=near)).status_code == 200


async def test_a_trusted_proxy_opens_nothing_without_a_key() -> None:
    async with served(trusted_proxies=("127.0.0.1",)) as world:
        near = {"server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5000)}
        response = await world.http.post("/publish/a", scope_base=near)
        assert (response.status_code, await error_code(response)) == (403, "key_required")


async def test_a_query_that_is_not_utf_8_is_a_bad_request() -> None:
    async with served() as world:
        response = await world.http.get("/publish/a", scope_base={"query_string": b"msg=\xff"})
        assert (response.status_code, await error_code(response)) == (400, "bad_request")


async def test_behind_hypercorns_proxy_fix_the_public_host_and_scheme_count() -> None:
    app = create_app(Settings(), harden=False)
    app.asgi_app = ProxyFixMiddleware(app.asgi_app)  # type: ignore[method-assign, arg-type, assignment]
    proxied = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "push.example"}
    async with simulate(app) as world:
        await member(world, "/ws/sample", {**proxied, "Origin": "https://push.example"})
        assert push_of(world).hub.groups == 1
        with pytest.raises(Refused):
            await member(world, "/ws/sample", {**proxied, "Origin": "https://localhost"})
        denied = await world.http.post("/publish/sample", headers=proxied)
        assert (denied.status_code, await error_code(denied)) == (403, "key_required")


async def test_with_a_key_it_is_needed_everywhere_but_for_health() -> None:
    async with served(api_key="s3cret") as world:
        for method, path in (("POST", "/publish/a"), ("GET", "/groups"), ("GET", "/groups/a")):
            bare = await world.http.open(path, method=method)
            assert (bare.status_code, await error_code(bare)) == (401, "key_required")
            assert bare.headers["WWW-Authenticate"].startswith("Bearer")
            wrong = await world.http.open(path, method=method, headers={"X-API-Key": "wrong"})
            assert (wrong.status_code, await error_code(wrong)) == (403, "wrong_key")
            for right in ({"X-API-Key": "s3cret"}, {"Authorization": "bearer s3cret"}):
                assert (await world.http.open(path, method=method, headers=right)).status_code == 200
        by_get = await world.http.get("/publish/a?msg=x", headers={"X-API-Key": "s3cret"})
        assert (by_get.status_code, by_get.headers["Allow"]) == (405, "POST, OPTIONS")
        assert (await world.http.get("/health/ready")).status_code == 200


# Looking


async def test_groups_are_listed_a_page_at_a_time() -> None:
    async with served() as world:
        await member(world, "/ws?group=b&group=a&group=c")
        first = await (await world.http.get("/groups?limit=2")).get_json()
        assert [group["group"] for group in first["groups"]] == ["a", "b"]
        assert first["next"] == "b"
        last = await (await world.http.get("/groups?limit=2&after=b")).get_json()
        assert [group["group"] for group in last["groups"]] == ["c"]
        assert last["next"] is None


async def test_a_group_is_described_whether_anybody_is_in_it_or_not() -> None:
    async with served() as world:
        await member(world, "/ws/sample")
        shown = await (await world.http.get("/groups/sample")).get_json()
        assert set(shown) == {
            *("group", "subscribers", "epoch", "offset", "behind", "policy"),
            *("lag", "dropped", "evicted"),
        }
        assert (shown["subscribers"], shown["offset"], shown["policy"]) == (1, 0, "drop_oldest")
        nobody = await (await world.http.get("/groups/nobody")).get_json()
        assert (nobody["subscribers"], nobody["offset"]) == (0, 0)


async def test_ready_turns_503_once_it_drains_and_live_does_not() -> None:
    async with served() as world:
        assert (await world.http.get("/health/ready")).status_code == 200
        await push_of(world).hub.roster.drain()
        response = await world.http.get("/health/ready")
        assert (response.status_code, await error_code(response)) == (503, "shutting_down")
        assert (await world.http.get("/health/live")).status_code == 200


async def test_the_first_page_says_what_to_type() -> None:
    async with served() as world:
        response = await world.http.get("/", headers={"Host": "localhost:8000"})
        assert "ws://localhost:8000/ws/sample" in await response.get_data(as_text=True)
    async with served(api_key="s3cret") as world:
        text = await (await world.http.get("/")).get_data(as_text=True)
        assert "X-API-Key: KEY" in text
        assert "s3cret" not in text


# Subscribing


async def test_several_groups_by_query_are_joined_once_each() -> None:
    async with served() as world:
        client = await member(world, "/ws?group=a&group=b%3Ac&group=a&other=d")
        await world.http.post("/publish/a", data=b"1")
        await world.http.post("/publish/b:c", data=b"2")
        assert [await client.receive(), await client.receive()] == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/ws", "no group"),
        ("/ws/", "no group"),
        ("/ws/a%20b", "not a group name"),
        ("/ws/a%2Fb", "not a group name"),
        ("/ws/a//b", "not a group name"),
        ("/ws?group=", "not a group name"),
        ("/ws?group=a&group=%ff", "not a group name"),
        ("/ws?group=a&group=b&group=c&group=d", "too many groups: 3"),
    ],
)
async def test_who_asks_for_groups_it_cannot_have_is_closed_with_the_rule(path: str, reason: str) -> None:
    async with served(max_groups_per_connection=3) as world:
        closed = await (await member(world, path)).wait_closed()
        assert closed.code == 1008
        assert closed.reason.startswith(reason)
        assert push_of(world).hub.groups == 0


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws/a", {"Origin": "https://evil.example"}, 403),
        ("/ws/a", {"Origin": "null"}, 403),
        ("/ws/a", {"Host": "a..b"}, 400),
        ("/groups", {}, 400),
        ("/nothing", {}, 404),
    ],
)
async def test_a_handshake_that_is_refused_is_answered_in_json(path: str, headers: dict[str, str], status: int) -> None:
    async with served() as world:
        with pytest.raises(Refused) as refused:
            await member(world, path, headers)
        assert refused.value.status == status
        assert "error" in msgspec.json.decode(refused.value.body)


async def test_one_client_too_many_is_refused_with_503() -> None:
    async with served(max_connections=1) as world:
        await member(world, "/ws/a")
        with pytest.raises(Refused) as refused:
            await member(world, "/ws/a")
        assert refused.value.status == 503


async def test_pages_of_our_own_and_of_allowed_origins_connect() -> None:
    async with served(allowed_origins=("https://app.example",)) as world:
        await member(world, "/ws/a", {"Host": "push.example", "Origin": "https://push.example"})
        await member(world, "/ws/a", {"Host": "push.example", "Origin": "https://app.example"})


async def test_a_client_that_sends_where_it_may_not_is_closed_with_1008() -> None:
    async with served() as world:
        client = await member(world, "/ws/sample")
        await client.send("hello")
        closed = await client.wait_closed()
        assert closed.code == 1008
        assert "client_publish" in closed.reason


async def test_a_client_that_may_publishes_to_its_group() -> None:
    open_chat = MappingProxyType({"chat": GroupSettings(client_publish=True)})
    async with served(namespaces=open_chat, max_message=5) as world:
        one, two = await member(world, "/ws/chat:1"), await member(world, "/ws/chat:1")
        for data in ("hi", b"\x00", "", b""):
            await one.send(data)
            assert await one.receive() == await two.receive() == data
        await one.send("far too long")
        closed = await one.wait_closed()
        assert closed.code == 1009
        assert "max_message" in closed.reason


async def test_a_client_of_several_groups_publishes_to_all_of_them_or_none() -> None:
    open_chat = MappingProxyType({"chat": GroupSettings(client_publish=True)})
    async with served(namespaces=open_chat) as world:
        both = await member(world, "/ws?group=chat:1&group=chat:2")
        await both.send("hi")
        assert [await both.receive(), await both.receive()] == ["hi", "hi"]
        mixed = await member(world, "/ws?group=chat:1&group=news")
        await mixed.send("no")
        assert (await mixed.wait_closed()).code == 1008
        assert (await push_of(world).hub.info("chat:1")).offset == 1


async def test_a_client_whose_message_could_not_be_published_in_time_is_told_to_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    jobs = MappingProxyType(
        {"jobs": GroupSettings(client_publish=True, policy=Policy.BLOCK, max_lag=2, block_timeout=5)}
    )
    async with served(namespaces=jobs, write_timeout=600) as world:
        slow, sender = await member(world, "/ws/jobs:1"), await member(world, "/ws/jobs:1")
        slow.stall()
        began = trio.current_time()
        for _ in range(20):
            await sender.send("work")
        closed = await sender.wait_closed()
        assert (closed.code, trio.current_time() - began) == (1013, 5)
        assert "block_timeout" in closed.reason or "behind" in closed.reason
        slow.resume()


# As a library


async def test_what_crashes_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(), harden=False)

    @app.get("/crash")
    async def crash() -> str:
        raise RuntimeError("a secret of the house")

    @app.websocket("/crash")
    async def crash_later() -> None:
        async with app.extensions["triocast"].connect():
            raise RuntimeError("a secret of the house")

    async with simulate(app) as world:
        with caplog.at_level(logging.ERROR):
            response = await world.http.get("/crash")
            assert (response.status_code, await error_code(response)) == (500, "internal_server_error")
            assert b"secret" not in await response.get_data(as_text=False)
            assert (await (await member(world, "/crash")).wait_closed()).code == 1011
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == 2 * [
            "a secret of the house"
        ]


@pytest.mark.parametrize("mount", [routes, publish_routes])
async def test_the_routes_can_be_mounted_below_a_prefix(mount: Callable[[Triocast], Any]) -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    app.register_blueprint(mount(push), url_prefix="/push")
    async with simulate(app) as world:
        response = await world.http.post("/push/publish/a%2541", data=b"hello")
        assert (await response.get_json())["group"] == "a%41"
        if mount is routes:
            client = await world.connect("/push/ws/a")
            await world.http.post("/push/publish/a", data=b"hello")
            assert await client.receive() == "hello"
            with pytest.raises(Refused):
                await world.connect("/push/ws/a", headers={"Origin": "https://elsewhere.example"})
        bad = await world.http.post("/push/publish/a%20b", data=b"hello")
        assert (bad.status_code, await error_code(bad)) == (400, "invalid_group_name")


async def test_publishing_works_from_threads_and_background_tasks() -> None:
    app = create_app(Settings(), harden=False)
    push: Triocast = app.extensions["triocast"]

    @app.get("/by-thread")
    def by_thread() -> str:  # Quart runs a plain function in a thread
        receipt = trio.from_thread.run(push.group("sample").send, {"from": "thread"})
        return str(receipt.offset)

    @app.get("/by-task")
    async def by_task() -> str:
        app.add_background_task(push.group("sample").send, b"from task")
        return "soon"

    async with simulate(app) as world:
        client = await member(world, "/ws/sample")
        assert await (await world.http.get("/by-thread")).get_data(as_text=True) == "1"
        assert await client.receive() == '{"from":"thread"}'
        await world.http.get("/by-task")
        assert await client.receive() == b"from task"


async def test_a_client_that_leaves_is_gone_from_its_groups() -> None:
    async with served() as world:
        client = await member(world, "/ws/sample")
        assert push_of(world).hub.groups == 1
        await client.close()
        with pytest.raises(Closed):
            await client.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert (push_of(world).hub.groups, push_of(world).hub.connections) == (0, 0)


def test_each_part_of_what_is_served_can_be_had_by_itself() -> None:
    parts = [name for name in vars(blueprint) if name.endswith("_routes")]
    assert len(parts) > 10
    assert [name for name in parts if getattr(web, name, None) is not getattr(blueprint, name)] == []
