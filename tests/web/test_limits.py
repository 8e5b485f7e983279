"""Bodies are bounded before Quart queues them: how much is let through, and what the client is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from quart import request
from quart_trio import QuartTrio

from triocast import Settings
from triocast.web import bound_bodies
from triocast.web.limits import BoundedBody, Reply

Event = dict[str, Any]
LIMIT = 1000


class Exchange:
    """One request by raw ASGI: chunks are given when the application asks, and what it took is counted."""

    def __init__(
        self, app: QuartTrio, chunks: list[bytes], *, path: str = "/", whole: bool = True, **headers: str
    ) -> None:
        self.taken = 0
        self.sent: list[Event] = []
        self._app = app
        self._chunks = chunks
        self._whole = whole
        self._path = path
        self._headers = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}

    @property
    def status(self) -> int:
        starts = [event for event in self.sent if event["type"] == "http.response.start"]
        assert len(starts) == 1
        assert self.sent[-1]["more_body"] is False
        return int(starts[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)

    async def run(self) -> Exchange:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in self._headers.items()],
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 8000),
            "state": {},
            "extensions": {},
        }
        await self._app(scope, self._receive, self._send)  # type: ignore[arg-type]
        return self

    async def _receive(self) -> Event:
        await trio.lowlevel.checkpoint()
        if self._chunks:
            chunk = self._chunks.pop(0)
            self.taken += len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks) or not self._whole}
        await trio.sleep_forever()
        raise AssertionError

    async def _send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(event)


class Bounded:
    """An application with one handler that reads bodies, one that does not, and bounds."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.app = QuartTrio(__name__)
        self.settings = Settings(max_message=LIMIT, body_timeout=30, close_timeout=5)
        bound_bodies(self.app, self.settings)

        @self.app.post("/")
        async def reads() -> str:
            self.read.append(len(await request.get_data(cache=True, as_text=False, parse_form_data=False)))
            return "read"

        @self.app.post("/deaf")
        async def deaf() -> str:
            return "answered"


@pytest.fixture
def bounded() -> Bounded:
    return Bounded()


def code(exchange: Exchange) -> str:
    error: dict[str, dict[str, str]] = msgspec.json.decode(exchange.body)
    return error["error"]["code"]


async def test_a_body_of_just_the_limit_passes(bounded: Bounded) -> None:
    exchange = await Exchange(bounded.app, [b"x" * 400, b"x" * 600], content_length="1000").run()
    assert (exchange.status, bounded.read) == (200, [1000])


async def test_a_body_that_says_it_is_larger_is_refused_before_quart_sees_it(
    bounded: Bounded, autojump_clock: trio.testing.MockClock
) -> None:
    exchange = await Exchange(bounded.app, [b"x" * 1001], content_length="1001").run()
    assert (exchange.status, code(exchange), bounded.read) == (413, "message_too_large", [])
    assert "max_message" in exchange.body.decode()


@pytest.mark.parametrize("declared", ["1" * 5000, "99999999999999999999"])
async def test_a_length_beyond_all_bounds_is_refused_too(bounded: Bounded, declared: str) -> None:
    exchange = await Exchange(bounded.app, [b"x"], content_length=declared).run()
    assert exchange.status == 413


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=6))
async def test_no_more_than_the_limit_ever_gets_through(chunks: list[bytes]) -> None:
    waiting = list(chunks)

    async def receive() -> Event:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    body = BoundedBody({"headers": [], "path": "/publish/a"}, receive, Reply(receive), Settings(max_message=LIMIT))  # type: ignore[arg-type]
    through = b""
    more = True
    while more:
        event = await body.receive()
        through += event.get("body", b"")
        more = event.get("more_body", False)
    whole = b"".join(chunks)
    assert len(through) <= LIMIT
    assert whole.startswith(through)
    assert (through == whole) == (body.refusal is None) == (len(whole) <= LIMIT)


async def test_a_chunked_body_that_grows_too_large_is_refused_where_it_does(
    bounded: Bounded, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = [b"x" * 300] * 6
    with caplog.at_level(logging.WARNING):
        exchange = await Exchange(bounded.app, chunks).run()
    assert (exchange.status, code(exchange), bounded.read) == (413, "message_too_large", [])
    assert caplog.records == []  # the handler's end is ordinary


async def test_what_is_still_sent_after_a_refusal_is_discarded_for_a_while_only(
    bounded: Bounded, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    exchange = await Exchange(bounded.app, [b"x" * 900] * 10, whole=False).run()
    assert exchange.status == 413
    assert exchange.taken == 9000  # taken off the client's hands; held was never more than two chunks
    assert trio.current_time() - before == bounded.settings.close_timeout


async def test_the_answer_is_complete_before_what_follows_is_discarded(
    bounded: Bounded, autojump_clock: trio.testing.MockClock
) -> None:
    exchange = Exchange(bounded.app, [b"x" * 2000], whole=False, content_length="5000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run)
        await trio.testing.wait_all_tasks_blocked()
        assert code(exchange) == "message_too_large"
        assert exchange.sent[-1]["more_body"] is True


async def test_a_body_that_does_not_arrive_in_time_is_answered_408(
    bounded: Bounded, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    exchange = await Exchange(bounded.app, [b"x"], whole=False, content_length="1000").run()
    assert (exchange.status, code(exchange), bounded.read) == (408, "request_timeout", [])
    waited = trio.current_time() - before
    assert waited == bounded.settings.body_timeout + bounded.settings.close_timeout


async def test_an_answer_that_has_begun_is_completed_whatever_is_still_sent(bounded: Bounded) -> None:
    begun = trio.Event()

    @bounded.app.post("/stream")
    async def stream() -> AsyncIterator[bytes]:
        async def answer() -> AsyncIterator[bytes]:
            yield b"begun "
            begun.set()
            await flooded.wait()
            yield b"and done"

        return answer()

    exchange = Exchange(bounded.app, [], path="/stream")
    flooded = trio.Event()

    async def flood() -> Event:
        await begun.wait()
        if exchange.taken == 10_000:
            flooded.set()
            await trio.sleep_forever()
        exchange.taken += 500
        return {"type": "http.request", "body": b"x" * 500, "more_body": True}

    exchange._receive = flood  # type: ignore[method-assign]
    await exchange.run()
    assert (exchange.status, exchange.body) == (200, b"begun and done")


async def test_a_form_may_be_as_long_as_its_escapes_make_it(bounded: Bounded) -> None:
    form = b"msg=" + b"%41" * LIMIT
    urlencoded = "application/x-www-form-urlencoded"
    exchange = await Exchange(bounded.app, [form], content_type=urlencoded, content_length=str(len(form))).run()
    assert (exchange.status, bounded.read) == (200, [len(form)])


async def test_once_a_body_is_complete_the_handler_has_all_its_time(
    bounded: Bounded, autojump_clock: trio.testing.MockClock
) -> None:
    @bounded.app.post("/slow")
    async def slow() -> str:
        await trio.sleep(59)  # RESPONSE_TIMEOUT of Quart is for sending, not for this
        return "done"

    exchange = await Exchange(bounded.app, [b"x"], path="/slow").run()
    assert exchange.status == 200
