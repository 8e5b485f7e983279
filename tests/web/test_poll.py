"""`/poll`: what may be asked for and by whom, what is answered and when, and polls in applications of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio

from tests.poll import PATIENCE, poller
from tests.served import Served, served
from triocast import GroupSettings, Settings, Triocast
from triocast.core.recovery import Join
from triocast.errors import CRASHED, TOO_SLOW, Close, InvalidPosition
from triocast.link.host import open_host
from triocast.web import routes

LONG = "wait=60"  # longer than a test's patience: whatever is answered is not answered because the wait is over
THERE = "Origin: https://there.example"


async def publish(app: Served, group: str, *messages: object) -> None:
    for message in messages:
        await app.push.group(group).send(message)


async def members(app: Served, group: str, count: int) -> None:
    """Wait until so many wait for a message of the group."""
    with trio.fail_after(PATIENCE):
        while (await app.push.group(group).info()).subscribers != count or app.hub.connections < count:
            await trio.sleep(0.001)


async def nobody(app: Served) -> None:
    """Wait until nobody is connected; an answer is out a moment before its client is let go."""
    with trio.fail_after(PATIENCE):
        while app.hub.connections:
            await trio.sleep(0.001)


async def epoch_of(app: Served, group: str) -> str:
    return (await app.push.group(group).info()).epoch


# What can be asked for


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("/poll", "bad_request", "no group"),
        ("/poll/", "bad_request", "no group"),
        ("/poll?group=a", "bad_request", "no group"),
        ("/poll/a*b", "invalid_group_name", "'a*b' is not a group name"),
        ("/poll/a/b", "invalid_group_name", "'a/b' is not a group name"),
        ("/poll/a?since=x", "bad_request", "since is EPOCH:OFFSET"),
        ("/poll/a?since=e:1&since=e:2", "bad_request", "since is EPOCH:OFFSET"),
        ("/poll/a?last=0", "bad_request", "last is how many"),
        ("/poll/a?last=1&since=0", "bad_request", "last is how many"),
        ("/poll/a?wait=60.001", "bad_request", "wait is how many seconds to wait for a message, 0 to 60"),
        ("/poll/a?wait=-1", "bad_request", "wait is how many"),
        ("/poll/a?wait=nan", "bad_request", "wait is how many"),
        ("/poll/a?wait=", "bad_request", "wait is how many"),
        ("/poll/a?wait=1&wait=2", "bad_request", "wait is how many"),
        ("/poll/a?limit=0", "bad_request", "limit is a number from 1 to 1000"),
        ("/poll/a?limit=1001", "bad_request", "limit is a number from 1 to 1000"),
    ],
)
async def test_what_can_not_be_asked_for_is_answered_400(target: str, code: str, said: str) -> None:
    async with served() as app, poller(app.port) as client:
        answer = await client.poll(target)
        assert (answer.status, answer.code) == (400, code)
        assert said in answer.said["error"]["message"]
        assert (await client.poll("/poll/a?wait=0")).status == 200  # on the same connection
        await nobody(app)


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("HEAD", 200), ("OPTIONS", 204)])
async def test_other_methods_have_other_answers(method: str, status: int) -> None:
    async with served() as app, poller(app.port) as client:
        await client.ask("/poll/a", method=method)
        answer = await client.answer(method)
        assert answer.status == status
        assert ("access-control-allow-methods" in answer.headers) == (method == "OPTIONS")
        if method == "HEAD":
            assert answer.headers["content-type"] == "application/json"
        assert bool(answer.body) == (method == "POST")
        await nobody(app)


async def test_nobody_on_the_way_keeps_an_answer() -> None:
    async with served() as app, poller(app.port) as client:
        answer = await client.poll("/poll/a?wait=0")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("allowed", "origin", "told"),
    [
        ((), "http://localhost", ("http://localhost", "true")),
        (("https://there.example",), "https://there.example", ("https://there.example", "true")),
        (("*",), "https://there.example", ("*", None)),
    ],
)
async def test_pages_of_allowed_origins_may_read(
    allowed: tuple[str, ...], origin: str, told: tuple[str, str | None]
) -> None:
    async with served(Settings(allowed_origins=allowed)) as app, poller(app.port) as client:
        for target, status in (("/poll/a?wait=0", 200), ("/poll/a*b", 400)):
            answer = await client.poll(target, f"Origin: {origin}")
            assert answer.status == status
            headers = [answer.headers.get(f"access-control-allow-{name}") for name in ("origin", "credentials")]
            assert tuple(headers) == told
            assert answer.headers["vary"] == "Origin"


async def test_a_page_of_a_foreign_origin_is_refused() -> None:
    async with served() as app, poller(app.port) as client:
        answer = await client.poll("/poll/a?wait=0", THERE)
        assert (answer.status, answer.code) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in answer.headers
        await nobody(app)


async def test_too_many_clients_are_told_to_try_again() -> None:
    async with served(Settings(max_connections=1)) as app, poller(app.port) as one, poller(app.port) as other:
        await one.ask(f"/poll/a?{LONG}")
        await members(app, "a", 1)
        answer = await other.poll("/poll/a?wait=0")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_many_connections", "1")
        await publish(app, "a", "x")
        assert (await one.answer()).data == ["x"]
        assert (await other.poll("/poll/a?wait=0")).status == 200


async def test_who_waits_keeps_nobody_from_coming_in() -> None:
    async with served(Settings(max_handshakes=1)) as app, poller(app.port) as one, poller(app.port) as other:
        await one.ask(f"/poll/a?{LONG}")
        await members(app, "a", 1)
        assert (await other.poll("/poll/a?wait=0")).status == 200


# What is answered


async def test_a_poll_is_answered_as_soon_as_something_is_published() -> None:
    async with served() as app, poller(app.port) as client:
        await client.ask(f"/poll/a?{LONG}")
        await members(app, "a", 1)
        receipt = await app.publish("a", b"hello")
        assert receipt["subscribers"] == 1
        answer = await client.answer()
        epoch = await epoch_of(app, "a")
        said = {"group": "a", "messages": [{"group": "a", "offset": 1, "data": "hello"}], "next": f"{epoch}:1"}
        assert answer.said == said
        await nobody(app)


async def test_a_poll_that_waits_in_vain_says_where_to_go_on_and_nothing_in_between_is_missed() -> None:
    async with served() as app, poller(app.port) as client:
        await publish(app, "a", "before")
        empty = await client.poll("/poll/a?wait=0.01")
        assert (empty.data, empty.next) == ([], f"{await epoch_of(app, 'a')}:1")
        await publish(app, "a", "one", "two")
        answer = await client.poll(f"/poll/a?since={empty.next}&{LONG}")
        assert answer.data == ["one", "two"]
        empty = await client.poll(f"/poll/a?since={answer.next}&wait=0")
        assert (empty.data, empty.next) == ([], answer.next)


async def test_messages_are_written_as_the_json_format_has_them() -> None:
    async with served() as app, poller(app.port) as client:
        await publish(app, "a", "two\r\nlines", {"x": [1, None]}, b"\x00\xff")
        answer = await client.poll("/poll/a?since=0")
        assert answer.said["messages"] == [
            {"group": "a", "offset": 1, "data": "two\r\nlines"},
            {"group": "a", "offset": 2, "data": {"x": [1, None]}},
            {"group": "a", "offset": 3, "b64data": "AP8="},
        ]


async def test_a_new_client_begins_with_what_it_or_the_groups_settings_ask_for() -> None:
    settings = Settings(namespaces={"prices": GroupSettings(join=Join.LAST)})
    async with served(settings) as app, poller(app.port) as client:
        for group in ("a", "prices:1"):
            await publish(app, group, "1", "2", "3")
        assert (await client.poll("/poll/a?last=2")).data == ["2", "3"]
        assert (await client.poll("/poll/a?wait=0")).data == []
        assert (await client.poll("/poll/prices:1?wait=0")).data == ["3"]


async def test_an_empty_group_is_polled_from_its_oldest_message() -> None:
    async with served() as app, poller(app.port) as client:
        empty = await client.poll("/poll/a?since=0&wait=0")
        assert (empty.data, empty.next) == ([], f"{await epoch_of(app, 'a')}:0")
        await publish(app, "a", "x")
        assert (await client.poll(f"/poll/a?since={empty.next}")).data == ["x"]


@pytest.mark.parametrize(
    ("settings", "since", "gap"),
    [
        (Settings(history_size=2), "EPOCH:1", {"from": 2, "to": 3, "count": 2, "reason": "lost"}),
        (Settings(recovery_limit=2), "EPOCH:1", {"from": 2, "to": 3, "count": 2, "reason": "limit"}),
        (Settings(history_size=2), "gone:7", {"from": 1, "to": 3, "count": 3, "reason": "epoch"}),
        (Settings(), "gone:7", {"from": 1, "to": 0, "count": 0, "reason": "epoch"}),
    ],
)
async def test_a_gap_stands_in_its_place_with_the_messages_that_follow_it(
    settings: Settings, since: str, gap: dict[str, object]
) -> None:
    async with served(settings) as app, poller(app.port) as client:
        await publish(app, "a", *"12345")
        epoch = await epoch_of(app, "a")
        answer = await client.poll(f"/poll/a?since={since.replace('EPOCH', epoch)}&{LONG}")
        first, *others = answer.said["messages"]
        epochs = {"epochs": ["gone", epoch]} if gap["reason"] == "epoch" else {}
        assert first == {"group": "a", "gap": {**gap, **epochs}}
        assert [each["offset"] for each in others] == list(range(int(str(gap["to"])) + 1, 6))
        assert answer.next == f"{epoch}:5"


async def test_a_gap_that_nothing_follows_is_told_at_once() -> None:
    async with served(Settings(history_size=0)) as app, poller(app.port) as client:
        await publish(app, "a", "1", "2")
        epoch = await epoch_of(app, "a")
        answer = await client.poll(f"/poll/a?since={epoch}:0&{LONG}")
        assert [each["gap"]["to"] for each in answer.said["messages"]] == [2]
        assert answer.next == f"{epoch}:2"


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_an_answer_has_at_most_as_many_messages_as_its_client_wants(limit: int) -> None:
    async with served() as app, poller(app.port) as client:
        await publish(app, "a", *range(7))
        got: list[object] = []
        since = "0"
        while len(got) < 7:
            answer = await client.poll(f"/poll/a?since={since}&limit={limit}&wait=0")
            assert len(answer.data) == min(limit, 7 - len(got))
            got += answer.data
            since = answer.next
        assert got == list(range(7))
        assert app.hub.meters.of("a").delivered == 7


async def test_the_bytes_of_an_answer_are_bounded_but_for_one_message() -> None:
    async with served() as app, poller(app.port) as client:
        await publish(app, "a", *["x" * 30_000] * 3, "y" * 200_000, "z")
        sizes, since = [], "0"
        for _ in range(4):
            answer = await client.poll(f"/poll/a?since={since}&{LONG}")
            sizes.append([len(str(data)) for data in answer.data])
            since = answer.next
        assert sizes == [[30_000, 30_000], [30_000], [200_000], [1]]


async def test_http_1_0_and_the_end_of_a_connection_are_the_clients_to_choose() -> None:
    async with served() as app:
        for version, headers in (("1.0", ()), ("1.1", ("Connection: close",))):
            async with poller(app.port) as client:
                await client.ask("/poll/a?wait=0", *headers, version=version)
                assert (await client.answer()).data == []
                assert await client.ends()


async def test_requests_behind_one_that_waits_are_answered_in_their_turn() -> None:
    async with served(Settings(history_size=200)) as app, poller(app.port) as client:
        await publish(app, "a", *range(1, 201))
        epoch = await epoch_of(app, "a")
        await client.ask(f"/poll/a?since={epoch}:200&{LONG}")
        for offset in range(2, 200):  # more than is read ahead
            await client.ask(f"/poll/a?since={epoch}:{offset - 1}&limit=1&x={'x' * 1000}")
        await client.ask("/health/live")
        await members(app, "a", 1)
        await publish(app, "a", "at last")
        assert (await client.answer()).data == ["at last"]
        for offset in range(2, 200):
            assert (await client.answer()).data == [offset]
        assert (await client.answer()).said == {"status": "live"}


@pytest.mark.parametrize("behind", [0, 80_000])  # bytes; more than is read ahead, and less than two kernels hold
async def test_a_client_that_goes_away_while_it_waits_is_noticed(behind: int) -> None:
    async with served() as app:
        for leave in ("reset", "close"):
            async with poller(app.port) as client:
                await client.ask(f"/poll/a?{LONG}")
                await members(app, "a", 1)
                with trio.fail_after(PATIENCE):
                    await client.stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n" * (behind // 37))
                client.reset() if leave == "reset" else client.socket.close()
                await app.wait_connections(0)
                await members(app, "a", 0)
                await nobody(app)


# The end of a wait that nobody asked for


async def test_a_server_that_stops_answers_those_who_wait_with_where_they_are() -> None:
    async with served() as app, poller(app.port) as client:
        await publish(app, "a", "1")
        epoch = await epoch_of(app, "a")
        await client.ask(f"/poll/a?{LONG}")
        await members(app, "a", 1)
        await app.hub.roster.drain()
        answer = await client.answer()
        assert (answer.data, answer.next) == ([], f"{epoch}:1")
        refused = await client.poll(f"/poll/a?since={answer.next}")
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "shutting_down", "1")


@pytest.mark.parametrize(
    ("close", "status"),
    [(CRASHED, 503), (TOO_SLOW, 200), (Close(1000, ""), 200), (Close(3503, "go away"), 403)],
)
async def test_what_ends_a_wait_is_what_it_is_answered(close: Close, status: int) -> None:
    async with served() as app, poller(app.port) as client:
        await client.ask(f"/poll/a?{LONG}")
        await members(app, "a", 1)
        (connection,) = app.hub.roster
        connection.end(close)
        answer = await client.answer()
        assert answer.status == status
        if status != 200:
            assert answer.said["error"]["message"] == close.reason
            assert ("retry-after" in answer.headers) == (status == 503)
        assert (await client.poll("/poll/a?wait=0")).status == 200  # on the same connection


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
        response = push.poll("news", wait=float(request.args.get("wait", "60")))
        response.headers["X-Mine"] = "yes"
        return response


async def test_a_handler_answers_with_a_poll_that_no_limit_of_quarts_cuts_off() -> None:
    async with own(_news) as app, poller(app.port) as client:
        began = trio.current_time()
        answer = await client.poll("/news?wait=0.1")  # longer than RESPONSE_TIMEOUT
        assert trio.current_time() - began >= 0.1
        assert (answer.data, answer.headers["x-mine"]) == ([], "yes")
        assert answer.headers["cache-control"] == "no-store"
        await client.ask("/news")  # on the same connection
        await members(app, "news", 1)
        await publish(app, "news", "hello")
        assert (await client.answer()).data == ["hello"]
        await client.ask("/news")
        await members(app, "news", 1)
        client.reset()
        await app.wait_connections(0)
        await nobody(app)


async def test_a_handlers_poll_is_refused_as_any_other() -> None:
    async with own(_news, Settings(max_connections=1)) as app, poller(app.port) as one, poller(app.port) as other:
        refused = await other.poll("/news", THERE)
        assert (refused.status, refused.code) == (403, "foreign_origin")
        await one.ask("/news")
        await members(app, "news", 1)
        refused = await other.poll("/news")
        assert (refused.status, refused.code) == (503, "too_many_connections")


def _mounted(app: QuartTrio, push: Triocast) -> None:
    app.register_blueprint(routes(push), url_prefix="/push")


async def test_the_routes_answer_polls_below_a_prefix() -> None:
    async with own(_mounted, Settings(allowed_origins=(THERE.split()[1],))) as app, poller(app.port) as client:
        await publish(app, "a", "x")
        answer = await client.poll("/push/poll/a?since=0", THERE)
        assert (answer.data, answer.headers["access-control-allow-origin"]) == (["x"], "https://there.example")
        for target, code in (("/push/poll/a*b", "invalid_group_name"), ("/push/poll", "bad_request")):
            refused = await client.poll(target)
            assert (refused.status, refused.code) == (400, code)


def test_a_poll_of_nothing_or_for_ever_is_a_mistake() -> None:
    push = Triocast()
    for wrong in ({"wait": 61}, {"wait": -1}, {"limit": 0}, {"limit": 1001}, {"last": 0}, {"last": 1, "since": "0"}):
        with pytest.raises(ValueError, match=r"wait|limit|last"):
            push.poll("a", **wrong)
    with pytest.raises(InvalidPosition):
        push.poll("a", since="nonsense")
