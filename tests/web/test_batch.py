"""`POST /publish`: a receipt or an error for each message, whatever is sent."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from quart_trio import QuartTrio

from tests.served import served
from triocast import Draft, GroupSettings, Kind, Policy, Settings, Triocast
from triocast.engines import Published
from triocast.engines.memory import MemoryEngine
from triocast.errors import UnknownOutcome
from triocast.hub import Hub
from triocast.testing import World, simulate
from triocast.web import create_app, routes
from triocast.web.batch import AT_ONCE, publish_items
from triocast.web.items import MAX_PUBLISHES, Item, read_items

JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def serving(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        yield world


async def post(world: World, body: object, path: str = "/publish", **headers: str) -> tuple[int, Any]:
    """Post a body, as it is or as JSON; return the status and what is answered."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await world.http.post(path, data=data, headers={**JSON, **named})
    return response.status_code, msgspec.json.decode(await response.get_data(as_text=False))


async def results(world: World, *items: object) -> list[dict[str, Any]]:
    status, answer = await post(world, list(items))
    assert status == 200, answer
    assert set(answer) == {"results"}
    found: list[dict[str, Any]] = answer["results"]
    return found


def brief(result: dict[str, Any]) -> tuple[str | None, int | str]:
    """The group, and the offset or the error's code."""
    return result["group"], result["error"]["code"] if "error" in result else result["offset"]


async def kept(world: World, group: str) -> list[tuple[Kind, bytes, str | None, str | None]]:
    push: Triocast = world.app.extensions["triocast"]
    page = await push.group(group).history()
    return [(each.kind, each.data, each.key, each.exclude) for each in page.messages]


async def test_one_object_is_one_message_with_the_receipt_that_its_own_address_gives() -> None:
    async with serving() as world:
        alone = await (await world.http.post("/publish/a", data=b"x")).get_json()
        status, answer = await post(world, {"group": "a", "data": "y"})
        assert (status, answer) == (200, {"results": [alone | {"offset": 2}]})


async def test_each_item_and_group_is_answered_in_its_place() -> None:
    async with serving() as world:
        told = await results(
            world,
            {"groups": ["a", "b", "a"], "data": "x"},
            {"group": "b", "data": "y"},
            {"group": "a b", "data": "y"},
            {"group": "c", "data": "z"},
        )
        assert [brief(each) for each in told] == [
            ("a", 1),
            ("b", 1),
            ("a", 2),
            ("b", 2),
            ("a b", "invalid_group_name"),
            ("c", 1),
        ]
        assert await results(world) == []


async def test_text_is_text_other_json_is_kept_byte_for_byte_and_base64_is_binary() -> None:
    async with serving() as world:
        body = (
            b'[ {"group": "a", "data" : "gr\\u00fc\\u00dfe\\n"}, {"group":"a","data": {"b": 1.10, "a":[ 1 ]} },'
            b'{"group":"a","data":null}, {"group":"a","b64data":"AP8="}, {"group":"a","b64data":""},'
            b'{"group":"a","data":-0.0e5}, {"group":"a","data":""}] '
        )
        status, _ = await post(world, body)
        assert status == 200
        assert [(kind, data) for kind, data, *_ in await kept(world, "a")] == [
            (Kind.TEXT, "grüße\n".encode()),
            (Kind.JSON, b'{"b": 1.10, "a":[ 1 ]}'),
            (Kind.JSON, b"null"),
            (Kind.BINARY, b"\x00\xff"),
            (Kind.BINARY, b""),
            (Kind.JSON, b"-0.0e5"),
            (Kind.TEXT, b""),
        ]


async def test_items_have_the_options_that_a_publish_has() -> None:
    async with serving() as world:
        nothing = dict.fromkeys(("key", "idempotency_key", "exclude", "expected"))
        one, two, *_ = told = await results(
            world,
            {"group": "a", "data": 1, "key": "k", "exclude": "me", "expected": "0"},
            {"group": "a", "data": 2, "idempotency_key": "once"},
            {"group": "a", "data": 2, "idempotency_key": "once"},
            {"group": "a", "data": 3, "idempotency_key": "once"},
            {"group": "a", "data": 3, "expected": "0"},
            {"group": "a", "data": 4, **nothing},
        )
        assert [brief(each)[1] for each in told] == [1, 2, 2, "idempotency_conflict", "unexpected_position", 3]
        assert told[2] == two | {"repeated": True}
        assert told[4]["error"]["position"] == f"{one['epoch']}:2"
        assert [(key, exclude) for _, _, key, exclude in await kept(world, "a")] == [
            ("k", "me"),
            (None, None),
            (None, None),
        ]


@pytest.mark.parametrize(
    ("item", "group", "told"),
    [
        (7, None, "an item is a JSON object"),
        (None, None, "an item is a JSON object"),
        ([], None, "an item is a JSON object"),
        ({}, None, "as group (a string) or its groups as groups"),
        ({"data": 1}, None, "as group (a string) or its groups as groups"),
        ({"group": "a", "groups": ["a"], "data": 1}, None, "one of the two"),
        ({"group": 7, "data": 1}, None, "as group (a string)"),
        ({"groups": "a", "data": 1}, None, "a list of strings"),
        ({"groups": [], "data": 1}, None, "a list of strings"),
        ({"groups": ["a", 1], "data": 1}, None, "a list of strings"),
        ({"group": "a"}, "a", "as data (any JSON) or as b64data"),
        ({"group": "a", "data": 1, "b64data": ""}, "a", "one of the two"),
        ({"group": "a", "b64data": "AP8"}, "a", "b64data is not base64 in a string"),
        ({"group": "a", "b64data": "A P8="}, "a", "b64data is not base64"),
        ({"group": "a", "b64data": "ü"}, "a", "b64data is not base64"),
        ({"group": "a", "b64data": 7}, "a", "b64data is not base64"),
        ({"group": "a", "b64data": None}, "a", "b64data is not base64"),
        ({"group": "a", "data": 1, "Key": "x", "ttl": 7}, "a", "no 'Key', 'ttl': its fields are group, groups, data"),
        ({"group": "a", "data": 1, "x" * 99: 1}, "a", f"an item has no '{'x' * 37}...'"),
        ({"group": "a", "data": 1, "key": 7}, "a", "1 to 255 bytes, given once, as a string"),
        ({"group": "a", "data": 1, "expected": 0}, "a", "EPOCH:OFFSET"),
        ({"group": "a", "data": 1, "exclude": ["b"]}, "a", "exclude is the id of the one connection"),
        ({"group": "a", "data": 1, "idempotency_key": {}}, "a", "idempotency_key names the one message"),
    ],
)
async def test_what_is_wrong_with_an_item_is_said_in_its_place_and_the_others_are_published(
    item: object, group: str | None, told: str
) -> None:
    async with serving() as world:
        first, wrong, last = await results(world, {"group": "a", "data": 1}, item, {"group": "a", "data": 2})
        assert [brief(each) for each in (first, wrong, last)] == [("a", 1), (group, "bad_request"), ("a", 2)]
        assert told in wrong["error"]["message"]


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ({"key": ""}, "invalid_key"),
        ({"idempotency_key": "a b"}, "invalid_idempotency_key"),
        ({"exclude": "a b"}, "invalid_connection_id"),
        ({"expected": "7"}, "invalid_position"),
        ({"data": "x" * 101}, "message_too_large"),
    ],
)
async def test_what_is_wrong_for_every_group_of_an_item_is_said_for_each(option: dict[str, str], code: str) -> None:
    async with serving(max_message=100) as world:
        told = await results(world, {"groups": ["a", "b"], "data": 1, **option})
        assert [brief(each) for each in told] == [("a", code), ("b", code)]


async def test_a_field_that_is_there_twice_counts_as_it_is_last() -> None:
    async with serving() as world:
        status, answer = await post(world, b'{"group":"a","group":"b","data":1,"data":2}')
        assert (status, [brief(each) for each in answer["results"]]) == (200, [("b", 1)])
        assert [data for _, data, *_ in await kept(world, "b")] == [b"2"]


HOSTILE = {
    "nothing": b"",
    "half": b'[{"group":"a","data":1}',
    "a half string": b'{"group":"a","data":"\\ud800"}',
    "a cut string": b'{"group":"a","data":"',
    "two": b'{"group":"a","data":1}{"group":"a","data":2}',
    "no number": b'[{"group":"a","data":NaN}]',
    "endless": b'{"group":"a","data":Infinity}',
    "comment": b'[{"group":"a","data":1} /* */]',
    "comma": b'[{"group":"a","data":1},]',
    "no utf-8": b'[{"group":"a","data":"\xff"}]',
    "a surrogate": b'[{"group":"a","data":"\xed\xa0\x80"}]',
    "utf-16": '[{"group":"a","data":1}]'.encode("utf-16"),
    "a mark": b'\xef\xbb\xbf[{"group":"a","data":1}]',
    "deep": b"[" * 200_000,
    "deep inside": b'[{"group":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    "deep objects": b'{"group":' * 50_000 + b"1" + b"}" * 50_000,
    "a string": b'"group"',
    "a number": b"7",
    "true": b"true",
    "null": b" null ",
    "many": b"[" + b"1," * 400_000 + b"1]",
    "many items": b"[" + b",".join([b'{"group":"a","data":1}'] * (MAX_PUBLISHES + 1)) + b"]",
    "many groups": msgspec.json.encode([{"groups": ["a"] * 501, "data": 1}] * 2),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_a_body_that_can_not_be_meant_is_400_and_publishes_nothing(body: bytes) -> None:
    async with serving() as world:
        status, answer = await post(world, body)
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert len(answer["error"]["message"]) < 300
        assert await kept(world, "a") == []


@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(msgspec.json.encode))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    try:
        items = read_items(body)
    except Exception as error:  # noqa: BLE001 - what else it could raise is what is asked
        assert (type(error).__name__, getattr(error, "code", None)) == ("BadRequest", 400)
    else:
        assert all(isinstance(each.what, dict) and each.what["code"] == "bad_request" for each in items)
        whole = json.loads(body)
        assert len(items) == (len(whole) if isinstance(whole, list) else 1)


@given(st.text(), st.binary(), st.text(min_size=1, max_size=60))
def test_what_is_meant_is_read(text: str, data: bytes, key: str) -> None:
    items = [{"group": "a", "data": text, "key": key}, {"groups": ["a", "b"], "b64data": b64encode(data).decode()}]
    binary = Draft(Kind.BINARY, data)
    for ascii_only in (True, False):
        body = json.dumps(items, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        assert read_items(body) == [
            Item("a", Draft(Kind.TEXT, text.encode(), key)),
            Item("a", binary),
            Item("b", binary),
        ]


async def test_as_many_as_allowed_are_published_in_order() -> None:
    async with serving(history_size=MAX_PUBLISHES, history_bytes=10**7) as world:
        client = await world.connect("/ws/a")
        told = await results(world, *[{"group": "a", "data": number} for number in range(MAX_PUBLISHES)])
        assert [each["offset"] for each in told] == [*range(1, MAX_PUBLISHES + 1)]
        assert [await client.receive() for _ in range(MAX_PUBLISHES)] == [str(each) for each in range(MAX_PUBLISHES)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Content_Type": "application/json; charset=latin-1"}, 415),
        ({"Content_Type": "application/vnd.api+json"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"X_Forwarded_For": "10.0.0.1"}, 403),
    ],
)
async def test_it_is_json_and_comes_from_who_may_publish(headers: dict[str, str], status: int) -> None:
    async with serving() as world:
        assert (await post(world, {"group": "a", "data": 1}, **headers))[0] == status
        assert len(await kept(world, "a")) == (status == 200)


async def test_with_a_key_it_wants_the_key() -> None:
    async with serving(api_key="secret") as world:
        item = {"group": "a", "data": 1}
        assert (await post(world, item))[0] == 401
        assert (await post(world, item, X_API_Key="wrong"))[0] == 403
        assert (await post(world, item, X_API_Key="secret"))[0] == 200


async def test_it_is_only_posted_to() -> None:
    async with serving() as world:
        response = await world.http.get("/publish?group=a&data=1")
        assert response.status_code == 405
        assert "POST" in response.headers["Allow"]
        assert (await post(world, b"[]", "/publish/"))[1]["error"]["code"] == "invalid_group_name"


async def test_a_body_larger_than_its_bound_is_413_and_one_within_is_read_in_another_thread() -> None:
    async with serving(max_message=600_000, history_bytes=10**7) as world:
        two = [{"group": "a", "data": "x" * 590_000}] * 2
        assert [brief(each) for each in await results(world, *two)] == [("a", 1), ("a", 2)]
        status, answer = await post(world, [{"group": "a", "data": "x" * 590_000}] * 3)
        assert (status, answer["error"]["code"]) == (413, "message_too_large")
        assert "several messages have at most 1200000 bytes" in answer["error"]["message"]
    async with serving(max_message=10) as world:  # small messages may still be many
        assert len(await results(world, *[{"group": "a", "data": "x" * 10}] * 1000)) == 1000


async def test_the_routes_in_an_application_do_the_same_below_a_prefix() -> None:
    app = QuartTrio(__name__)
    app.register_blueprint(routes(Triocast(app, harden=False)), url_prefix="/push")
    async with simulate(app) as world:
        status, answer = await post(world, {"group": "a", "data": 1}, "/push/publish")
        assert (status, answer["results"][0]["offset"]) == (200, 1)


class Slow(MemoryEngine):
    """Has a group on which it waits, and one where it loses its answers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.at_once_now = self.at_once_most = 0
        self.asked: list[str] = []

    async def publish(self, group: str, draft: Draft) -> Published:
        self.asked.append(group)
        self.at_once_now += 1
        self.at_once_most = max(self.at_once_most, self.at_once_now)
        try:
            await trio.sleep(1000 if group == "slow" else 1)
            if group == "lost":
                raise UnknownOutcome("the answer was lost")
            return await super().publish(group, draft)
        finally:
            self.at_once_now -= 1


@asynccontextmanager
async def slow_hub() -> AsyncIterator[tuple[Hub, Slow]]:
    settings = Settings()
    engine = Slow(settings)
    hub = Hub(settings, engine)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub, engine
        nursery.cancel_scope.cancel()


async def test_groups_do_not_wait_for_each_other_and_only_so_many_are_published_to_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with slow_hub() as (hub, engine):
        items = [Item(f"g{number % 100}", Draft.of("x")) for number in range(200)]
        began = trio.current_time()
        told = await publish_items(hub, items)
        assert [each["offset"] for each in told] == [1] * 100 + [2] * 100
        assert engine.at_once_most == AT_ONCE
        assert trio.current_time() - began == pytest.approx(2 * -(-100 // AT_ONCE), abs=0.1)


async def test_what_follows_a_failure_in_its_group_is_not_tried_and_the_others_are(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with slow_hub() as (hub, engine):
        told = await publish_items(hub, [Item(name, Draft.of("x")) for name in ("lost", "a", "lost", "a")])
        assert [brief(each) for each in told] == [
            ("lost", "unknown_outcome"),
            ("a", 1),
            ("lost", "not_tried"),
            ("a", 2),
        ]
        assert engine.asked.count("lost") == 1
        assert "unknown_outcome" in told[2]["error"]["message"]


async def test_a_group_that_is_overloaded_is_waited_for_once(autojump_clock: trio.testing.MockClock) -> None:
    blocking = GroupSettings(policy=Policy.BLOCK, max_lag=2, block_timeout=5.0)
    async with serving(namespaces={"b": blocking}, allowed_origins=("*",)) as world:
        client = await world.connect("/ws/b:1", room=0)
        client.stall()
        began = trio.current_time()
        items = [{"group": "b:1", "data": number} for number in range(20)]
        told = await results(world, *items, {"group": "other", "data": 1})
        codes = [brief(each)[1] for each in told[:-1]]
        published = codes.index("overloaded")
        assert codes == [*range(1, published + 1), "overloaded", *["not_tried"] * (19 - published)]
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
        assert told[-1]["offset"] == 1


async def test_what_was_published_when_it_is_cancelled_stays_so(autojump_clock: trio.testing.MockClock) -> None:
    async with slow_hub() as (hub, engine):
        with trio.move_on_after(10):
            await publish_items(hub, [Item(name, Draft.of("x")) for name in ("a", "slow", "slow", "b")])
        assert [(await engine.position(group)).offset for group in ("a", "b", "slow")] == [1, 1, 0]


async def test_over_a_socket_it_is_the_same_and_hostile_clients_end_nothing() -> None:
    async with served() as app:

        async def ask(body: bytes, *headers: str, length: int | None = None) -> bytes:
            head = ["POST /publish HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Content-Type: application/json"]
            head += [*headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
            return await app.request("\r\n".join(head).encode() + body)

        answer = await ask(b'[{"groups":["a","b"],"data":"hello"},{"group":"a"}]')
        assert answer.startswith(b"HTTP/1.1 200")
        told = msgspec.json.decode(answer.split(b"\r\n\r\n", 1)[1])["results"]
        assert [brief(each) for each in told] == [("a", 1), ("b", 1), ("a", "bad_request")]
        for body in HOSTILE.values():
            assert (await ask(body)).startswith(b"HTTP/1.1 400"), body[:20]
        assert (await ask(b"", length=3_000_000)).startswith(b"HTTP/1.1 413")
        stream = await app.connect()  # somebody goes in the middle of its body
        await stream.send_all(b"POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n")
        await stream.send_all(b'Content-Type: application/json\r\n\r\n[{"group":"a",')
        await stream.aclose()
        await app.wait_connections(0)
        answer = await ask(b'{"group":"a","data":"hello"}')
        assert b'"offset":2' in answer


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("exclude=", "invalid_connection_id"),
        ("exclude=a+b", "invalid_connection_id"),
        ("exclude=a&exclude=a", "bad_request"),
        ("expected=", "invalid_position"),
        ("expected=7", "invalid_position"),
        ("expected=e:x", "invalid_position"),
        ("expected=0&expected=0", "bad_request"),
        ("key=", "invalid_key"),
        ("expcted=0", "bad_request"),
        ("idempotency-key=k", "bad_request"),
    ],
)
async def test_a_wrong_option_of_an_address_is_400_with_a_sentence(query: str, code: str) -> None:
    async with serving() as world:
        for method, message in ((world.http.post, ""), (world.http.get, "msg=x&")):
            response = await method(f"/publish/a?{message}{query}")
            error = (await response.get_json())["error"]
            assert (response.status_code, error["code"]) == (400, code)
            assert len(error["message"]) > 20
        assert await kept(world, "a") == []


async def test_an_address_can_exclude_and_expect() -> None:
    async with serving() as world:
        client = await world.connect("/ws/a?format=json")
        joined = msgspec.json.decode(await client.receive())["joined"]
        first = await world.http.post(f"/publish/a?expected=0&exclude={joined['client']}", data=b"x")
        assert first.status_code == 200
        moved = await world.http.post("/publish/a?expected=0", data=b"y")
        assert moved.status_code == 409
        error = (await moved.get_json())["error"]
        assert (error["code"], error["position"]) == ("unexpected_position", f"{joined['epoch']}:1")
        assert (await world.http.get(f"/publish/a?msg=y&expected={error['position']}")).status_code == 200
        assert [msgspec.json.decode(await client.receive()) for _ in range(2)] == [
            {"group": "a", "delivered": {"epoch": joined["epoch"], "offset": 1}},
            {"group": "a", "offset": 2, "data": "y"},
        ]


async def test_of_a_group_that_nobody_knows_the_position_is_told_as_it_is_expected() -> None:
    async with serving() as world:
        moved = await world.http.post("/publish/a?expected=e:3", data=b"x")
        assert (await moved.get_json())["error"]["position"] == "0"
        assert (await world.http.post("/publish/a?expected=0", data=b"x")).status_code == 200
