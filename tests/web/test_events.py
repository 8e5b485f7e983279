"""`/sse`: what may be asked for and by whom, coming back, and streams in applications of one's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from quart import Response
from quart_trio import QuartTrio

from tests.served import Served, served
from tests.sse import PATIENCE, Event, Listener, connect
from triocast import GroupSettings, Policy, Settings, Triocast
from triocast.errors import InvalidPosition
from triocast.event_request import MAX_EVENT_GROUPS
from triocast.link.host import open_host
from triocast.web import query, routes
from triocast.web.events import read_listening

THERE = "Origin: https://there.example"
NAMED = Settings(allowed_origins=("https://there.example",))


async def publish(app: Served, group: str, *messages: object) -> None:
    for message in messages:
        await app.push.group(group).send(message)


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Listener]:
    listener = await connect(port)
    try:
        yield listener
    finally:
        listener.socket.close()


async def refusal(listener: Listener) -> Any:
    """Return the error of an answer that is none of ours to listen to."""
    assert listener.headers["content-type"] == "application/json"
    body = bytearray()
    with trio.fail_after(PATIENCE):
        while len(body) < int(listener.headers["content-length"]):
            body += await listener.stream.receive_some()
    return json.loads(body)["error"]


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("/sse", "bad_request", "no group"),
        ("/sse/", "bad_request", "no group"),
        ("/sse?group=", "bad_request", "no group"),
        ("/sse/a*b", "invalid_group_name", "'a*b' is not a group name"),
        ("/sse/a/b", "invalid_group_name", "'a/b' is not a group name"),
        ("/sse?group=a&group=", "invalid_group_name", "'' is not a group name"),
        ("/sse/a?strict=2", "bad_request", "strict is 1 or 0"),
        ("/sse/a?format=xml", "bad_request", "no such format: it is one of raw, json, given once"),
        ("/sse/a?format=json&format=json", "bad_request", "no such format: it is one of raw, json, given once"),
        ("/sse/a?format=", "bad_request", "no such format: it is one of raw, json, given once"),
        ("/sse/a?since=x", "bad_request", "since is EPOCH:OFFSET"),
        ("/sse/a?since=e:1&since=e:2", "bad_request", "since is EPOCH:OFFSET"),
        ("/sse/a?last=0", "bad_request", "last is how many"),
        ("/sse?" + "&".join(f"group={index}" for index in range(MAX_EVENT_GROUPS + 1)), "too_many_groups", "32"),
    ],
)
async def test_what_can_not_be_asked_for_is_answered_400(target: str, code: str, said: str) -> None:
    async with served() as app, client(app.port) as listener:
        await listener.ask(target)
        error = await refusal(listener)
        assert (listener.status, error["code"]) == (400, code)
        assert said in error["message"]
        assert app.hub.connections == 0


async def test_groups_are_at_most_those_of_any_connection() -> None:
    async with served(Settings(max_groups_per_connection=2)) as app, client(app.port) as listener:
        await listener.ask("/sse?group=a&group=b&group=c")
        assert (await refusal(listener))["code"] == "too_many_groups"
        await listener.listen("/sse?group=a&group=b&group=a")
        await listener.joined("a", "b")


async def test_the_most_groups_there_may_be_fit_in_an_id_that_comes_back() -> None:
    groups = [f"{index}{'x' * 100}" for index in range(MAX_EVENT_GROUPS)]
    target = "/sse?" + "&".join(f"group={group}" for group in groups)
    async with served() as app:
        async with client(app.port) as listener:
            last = (await (await listener.listen(target)).events(MAX_EVENT_GROUPS))[-1]
        await publish(app, groups[7], "missed")
        async with client(app.port) as listener:
            await listener.listen(target, f"Last-Event-ID: {last.id}")
            events = await listener.events(MAX_EVENT_GROUPS + 1)
            assert [event.data for event in events if event.name == "message"] == ["missed"]


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("HEAD", 200), ("OPTIONS", 204)])
async def test_other_methods_have_other_answers(method: str, status: int) -> None:
    async with served() as app:
        answer = await app.request(f"{method} /sse/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert (b"text/event-stream" in head) == (method == "HEAD")
        assert (b"Last-Event-ID" in head) == (method == "OPTIONS")
        assert bool(body) == (method == "POST")
        assert app.hub.connections == 0


async def test_no_proxy_keeps_what_comes() -> None:
    async with served() as app, client(app.port) as listener:
        await listener.listen("/sse/a")
        assert listener.headers["x-accel-buffering"] == "no"
        assert "no-store" in listener.headers["cache-control"]
        assert "no-transform" in listener.headers["cache-control"]
        await listener.joined()
        assert listener.reader.retry is not None
        assert 1000 <= listener.reader.retry <= 3000


@pytest.mark.parametrize(
    ("allowed", "origin", "told"),
    [
        ((), "http://localhost", ("http://localhost", "true")),
        (("https://there.example",), "https://there.example", ("https://there.example", "true")),
        (("*",), "https://there.example", ("*", None)),
        (("*", "https://there.example"), "https://there.example", ("https://there.example", "true")),
        (("*", "https://there.example"), "https://else.example", ("*", None)),
        (("https://there.example",), None, (None, None)),
    ],
)
async def test_pages_of_allowed_origins_may_read_and_only_named_ones_with_cookies(
    allowed: tuple[str, ...], origin: str | None, told: tuple[str | None, str | None]
) -> None:
    async with served(Settings(allowed_origins=allowed)) as app:
        for target in ("/sse/a", "/sse/a*b"):
            async with client(app.port) as listener:
                await listener.ask(target, *([f"Origin: {origin}"] if origin is not None else []))
                assert listener.status == (200 if target == "/sse/a" else 400)
                headers = [listener.headers.get(f"access-control-allow-{name}") for name in ("origin", "credentials")]
                assert tuple(headers) == told
                assert listener.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://foreign.example", "null", "http://localhost:81"])
async def test_a_page_of_a_foreign_origin_is_refused(origin: str) -> None:
    async with served(NAMED) as app, client(app.port) as listener:
        await listener.ask("/sse/a", f"Origin: {origin}")
        assert (listener.status, (await refusal(listener))["code"]) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in listener.headers
        assert app.hub.connections == 0


async def test_too_many_clients_are_told_to_try_again() -> None:
    async with served(Settings(max_connections=1)) as app, client(app.port) as first, client(app.port) as second:
        await first.listen("/sse/a")
        await second.ask("/sse/a")
        assert (second.status, second.headers["retry-after"]) == (503, "1")
        assert (await refusal(second))["code"] == "too_many_connections"
        first.socket.close()
        await app.wait_connections(1)
        await second.listen("/sse/a")  # on the same connection


async def test_who_comes_back_gets_what_it_missed_and_then_what_comes() -> None:
    async with served() as app:
        async with client(app.port) as listener:
            await (await listener.listen("/sse/a")).joined()
            await publish(app, "a", "1", "2")
            seen = await listener.events(2)
        await publish(app, "a", "3", "4")
        for header, target in (
            (f"Last-Event-ID: {seen[1].id}", "/sse/a"),
            (f"Last-Event-ID: {seen[1].id}", "/sse/a?since=0"),  # which an EventSource repeats
            (f"Last-Event-ID: {seen[1].id}", "/sse/a?last=1"),
            ("Accept: text/event-stream", f"/sse/a?since={seen[1].id}"),
            ("Last-Event-ID:", f"/sse/a?since={seen[1].id}"),
        ):
            async with client(app.port) as listener:
                await listener.listen(target, header)
                joined, *missed = await listener.events(3)
                assert (joined.name, joined.id) == ("join", seen[1].id)
                assert [event.data for event in missed] == ["3", "4"]
        async with client(app.port) as listener:
            await listener.listen("/sse/a", f"Last-Event-ID: {seen[1].id}")
            await listener.events(3)
            await publish(app, "a", "5")
            assert (await listener.event()).data == "5"


async def test_who_comes_back_to_several_groups_goes_on_in_each() -> None:
    async with served() as app:
        async with client(app.port) as listener:
            await (await listener.listen("/sse?group=a&group=b")).joined("a", "b")
            await publish(app, "a", "a1")
            await publish(app, "b", "b1")
            *_, last = await listener.events(2)
        await publish(app, "a", "a2")
        await publish(app, "b", "b2")
        async with client(app.port) as listener:
            await listener.listen("/sse?group=a&group=b", f"Last-Event-ID: {last.id}")
            events = await listener.events(4)
            assert {event.data for event in events if event.name == "message"} == {"a2", "b2"}


@pytest.mark.parametrize("last_id", ["nonsense", "e:1,e:2", "e:-1", ","])
async def test_an_id_of_nowhere_is_refused(last_id: str) -> None:
    async with served() as app, client(app.port) as listener:
        await listener.ask("/sse/a", f"Last-Event-ID: {last_id}")
        assert (listener.status, (await refusal(listener))["code"]) == (400, "invalid_position")


@pytest.mark.parametrize("target", ["/sse/a", "/sse?group=a&group=b"])
async def test_a_position_of_another_life_is_a_gap_and_moves_only_with_it(target: str) -> None:
    """A client that is cut off between the beginning and the gap comes back with the position that it had."""
    async with served() as app, client(app.port) as listener:
        await publish(app, "a", "1", "2")
        epoch = (await app.push.group("a").info()).epoch
        known = "gone:7" if target == "/sse/a" else "gone:7,gone:8"
        await listener.listen(target, f"Last-Event-ID: {known}")
        joined, gap, one = [event for event in await listener.events(3 if target == "/sse/a" else 5) if _of_a(event)]
        assert (joined.name, joined.id.split(",")[0]) == ("join", "" if target == "/sse/a" else "gone:7")
        assert (gap.name, gap.id.split(",")[0]) == ("gap", f"{epoch}:0")
        assert json.loads(gap.data)["gap"]["epochs"] == ["gone", epoch]
        assert (one.data, one.id.split(",")[0]) == ("1", f"{epoch}:1")


def _of_a(event: Event) -> bool:
    return event.name == "message" or json.loads(event.data)["group"] == "a"


async def test_a_strict_client_is_closed_instead_of_missing_anything() -> None:
    async with served() as app, client(app.port) as listener:
        await publish(app, "a", "1")
        await listener.listen("/sse/a?strict=1&since=gone:7")
        # No `join`: cut off behind it, the client would come back from there, and never learn what it has missed.
        (closed,) = await listener.to_the_end()
        assert closed.name == "close"
        assert json.loads(closed.data)["code"] == 4010
        assert listener.whole


async def test_a_client_that_a_group_can_not_wait_for_is_told_so() -> None:
    docs = GroupSettings(policy=Policy.DISCONNECT, max_lag=2)
    settings = Settings(namespaces={"docs": docs}, write_timeout=600)
    async with served(settings, send_buffer=8192) as app:
        listener = await connect(app.port, buffer=8192)
        await (await listener.listen("/sse/docs:1")).joined()
        for _ in range(8):
            await publish(app, "docs:1", "x" * 200_000)
        *_, closed = await listener.to_the_end()
        assert json.loads(closed.data)["code"] == 1013
        assert listener.whole
        listener.socket.close()


async def test_a_server_that_stops_tells_its_clients_and_ends_their_streams() -> None:
    async with served() as app, client(app.port) as one, client(app.port) as several:
        await (await one.listen("/sse/a")).joined()
        await (await several.listen("/sse?group=a&group=b")).joined("a", "b")
        await app.host.terminate()
        await app.hub.roster.drain()
        for listener in (one, several):
            (closed,) = await listener.to_the_end()
            assert json.loads(closed.data) == {"code": 1012, "reason": "the server is restarting; come back"}
            assert listener.whole
            assert closed.id.count(":") == (1 if listener is one else 2)


# In applications of one's own


@asynccontextmanager
async def own(add: Callable[[QuartTrio, Triocast], None], settings: Settings | None = None) -> AsyncIterator[Served]:
    """Serve an application that `add` has put something into."""
    settings = settings if settings is not None else Settings()
    app = QuartTrio(__name__)
    push = Triocast(app, settings, harden=False)
    add(app, push)
    async with open_host(app, settings) as host, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, host.serve, [listener])
        yield Served(listener.socket.getsockname()[1], host, push)
        host.reset_all()
        nursery.cancel_scope.cancel()


def _news(app: QuartTrio, push: Triocast) -> None:
    app.config["RESPONSE_TIMEOUT"] = 0.05

    @app.get("/news")
    async def news() -> Response:
        response = push.events("news")
        response.headers["X-Mine"] = "yes"
        return response


async def test_a_handler_answers_with_a_stream_that_no_limit_of_quarts_ends() -> None:
    async with own(_news, Settings(ping_interval=0.1)) as app, client(app.port) as listener:
        await (await listener.listen("/news")).joined()
        assert listener.headers["x-mine"] == "yes"
        (connection,) = app.hub.roster
        assert "by direct events," in repr(connection)
        await listener.comment()  # later than RESPONSE_TIMEOUT
        await publish(app, "news", "still here")
        event = await listener.event()
        assert event.data == "still here"
        listener.socket.close()
        await app.wait_connections(0)
        assert app.hub.connections == 0
        await publish(app, "news", "missed")
        async with client(app.port) as again:
            await again.listen("/news", f"Last-Event-ID: {event.id}")
            assert [each.data for each in await again.events(2)][1] == "missed"


async def test_a_handlers_stream_is_refused_as_any_other() -> None:
    async with own(_news, Settings(max_connections=1)) as app, client(app.port) as one, client(app.port) as other:
        await other.ask("/news", "Origin: https://foreign.example")
        assert (other.status, (await refusal(other))["code"]) == (403, "foreign_origin")
        await one.listen("/news")
        await other.ask("/news")
        assert (other.status, (await refusal(other))["code"]) == (503, "too_many_connections")


def _mounted(app: QuartTrio, push: Triocast) -> None:
    app.register_blueprint(routes(push), url_prefix="/push")


async def test_the_routes_serve_streams_below_a_prefix() -> None:
    async with own(_mounted, NAMED) as app, client(app.port) as one, client(app.port) as several:
        await one.listen("/push/sse/a", THERE)
        assert one.headers["access-control-allow-origin"] == "https://there.example"
        await one.joined()
        await (await several.listen("/push/sse?group=a&group=b")).joined("a", "b")
        await publish(app, "a", "x")
        assert [(await each.event()).data for each in (one, several)] == ["x", "x"]
        async with client(app.port) as wrong:
            await wrong.ask("/push/sse/a*b")
            assert (wrong.status, (await refusal(wrong))["code"]) == (400, "invalid_group_name")


def test_a_stream_of_nothing_is_a_mistake() -> None:
    push = Triocast()
    with pytest.raises(ValueError, match="at least one group"):
        push.events()
    with pytest.raises(ValueError, match="at least 1"):
        push.events("a", last=0)
    with pytest.raises(InvalidPosition):
        push.events("a", since={"a": "nonsense"})


EVERY_ADDRESS = pytest.mark.parametrize("target", ["/sse/a?format=json", "/sse?group=a&group=b&format=json"])


@EVERY_ADDRESS
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_in_json_every_event_says_whose_it_is_and_comes_back_with_its_id(target: str, version: str) -> None:
    async with served() as app:
        async with client(app.port) as listener:
            await (await listener.listen(target, version=version)).joined(*("ab" if "b" in target else "a"))
            await publish(app, "a", "two\r\nlines", {"x": [1, None]}, b"\x00\xff")
            events = await listener.events(3)
            assert {event.name for event in events} == {"message"}
            assert [json.loads(event.data) for event in events] == [
                {"group": "a", "offset": 1, "data": "two\r\nlines"},
                {"group": "a", "offset": 2, "data": {"x": [1, None]}},
                {"group": "a", "offset": 3, "b64data": "AP8="},
            ]
        async with client(app.port) as listener:
            await listener.listen(target, f"Last-Event-ID: {events[0].id}", version=version)
            missed = [event for event in await listener.events(4 if "b" in target else 3) if event.name == "message"]
            assert missed == events[1:]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_clients_of_either_format_get_their_own(version: str) -> None:
    async with served() as app, client(app.port) as plain, client(app.port) as objects:
        await (await plain.listen("/sse/a?format=raw", version=version)).joined()
        await (await objects.listen("/sse/a?format=json", version=version)).joined()
        await publish(app, "a", "x")
        assert (await plain.event()).data == "x"
        assert (await objects.event()).data == '{"group":"a","offset":1,"data":"x"}'


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_position_of_another_life_moves_only_with_its_gap_in_json_too(version: str) -> None:
    async with served() as app, client(app.port) as listener:
        await publish(app, "a", "1")
        await listener.listen("/sse/a?format=json", "Last-Event-ID: gone:7", version=version)
        joined, gap, one = await listener.events(3)
        epoch = (await app.push.group("a").info()).epoch
        assert [(event.name, event.id) for event in (joined, gap, one)] == [
            ("join", ""),
            ("gap", f"{epoch}:0"),
            ("message", f"{epoch}:1"),
        ]


@pytest.mark.parametrize("target", ["/sse?group=a&group=b", "/sse?group=a&group=b&format=json"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_who_is_taken_out_of_a_group_is_told_and_keeps_its_position(target: str, version: str) -> None:
    async with served() as app, client(app.port) as listener:
        await (await listener.listen(target, version=version)).joined("a", "b")
        (connection,) = app.hub.roster
        await publish(app, "a", "1", "2")
        before = (await listener.events(2))[-1]
        await app.push.group("a").discard(connection)
        left = await listener.event()
        epoch = (await app.push.group("a").info()).epoch
        assert (left.name, left.id) == ("leave", before.id)
        assert json.loads(left.data) == {"group": "a", "left": {"epoch": epoch, "offset": 2}}
        await publish(app, "a", "not for it")
        await publish(app, "b", "for it")
        event = await listener.event()
        assert "not" not in event.data
        assert event.id.split(",")[0] == f"{epoch}:2"


async def test_who_is_taken_out_of_its_only_group_stays_and_may_be_taken_in_again() -> None:
    async with served() as app, client(app.port) as listener:
        await (await listener.listen("/sse/a")).joined()
        (connection,) = app.hub.roster
        group = app.push.group("a")
        await publish(app, "a", "1")
        last = await listener.event()
        await group.discard(connection)
        await group.add(connection)
        await publish(app, "a", "2")
        events = await listener.events(3)
        assert [event.name for event in events] == ["leave", "join", "message"]
        assert [event.id for event in events[:2]] == [last.id, last.id]


async def test_an_application_of_ones_own_gives_json_and_knows_no_other_format() -> None:
    push = Triocast()
    assert push.events("a", format="json").listening.format == "json"
    with pytest.raises(ValueError, match="no such format: 'xml'; there are raw, json"):
        push.events("a", format="xml")  # type: ignore[arg-type]


@pytest.mark.parametrize("read", [partial(read_listening, None), partial(read_listening, "a")])
def test_what_is_asked_for_is_parsed_once(read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    fields = query.fields

    def counted(encoded: bytes) -> list[tuple[bytes, bytes]]:
        parsed.append(encoded)
        return fields(encoded)

    monkeypatch.setattr(query, "fields", counted)
    asked = read(b"group=a&since=0&strict=1", Settings())
    assert (asked.groups, asked.strict) == (["a"], True)
    assert len(parsed) == 1
