"""HTTP/2 over TLS: bounded in both directions, a stream at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio
from h2.errors import ErrorCodes

from tests.link.harness import PATIENCE, Application, Client, Served, answer, serve, settings
from tests.memory import flat_memory

MEGABYTE = 1024 * 1024
HEADERS = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
POST = [(":method", "POST"), *HEADERS[1:]]


class H2Client:
    """A client that opens no window by itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.events: list[h2.events.Event] = []
        self.body: dict[int, bytes] = {}

    async def start(self) -> H2Client:
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.client.send(data)

    async def request(self, headers: list[tuple[str, str]] = HEADERS, *, end: bool = True) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, headers, end_stream=end)
        await self.flush()
        return stream_id

    async def read(self) -> bool:
        """Take what comes next; False at the end."""
        try:
            data = await self.client.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        for event in self.h2.receive_data(data) if data else []:
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
        await self.flush()
        return bool(data)

    async def until(self, kind: type[Any], wanted: Callable[[Any], bool] = lambda event: True) -> Any:
        """Read until an event of this kind has come; return it."""
        with trio.fail_after(PATIENCE):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and wanted(event):
                        return event
                if not await self.read():
                    raise EOFError(self.events)

    async def until_end(self, stream_id: int) -> bytes:
        await self.until(h2.events.StreamEnded, lambda event: event.stream_id == stream_id)
        return self.body.get(stream_id, b"")

    async def until_reset(self, stream_id: int) -> ErrorCodes | int | None:
        event = await self.until(h2.events.StreamReset, lambda event: event.stream_id == stream_id)
        return event.error_code

    async def open_window(self, size: int, stream_id: int | None = None) -> None:
        self.h2.increment_flow_control_window(size, stream_id)
        await self.flush()


async def connect(served: Served) -> H2Client:
    return await H2Client(await served.connect(alpn="h2")).start()


class Pours(Application):
    """Answers with more than any window."""

    size = 2 * MEGABYTE

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/small":
            await answer(send, 200, b"small")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(self.size // MEGABYTE):
            await send({"type": "http.response.body", "body": bytes(MEGABYTE), "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})
        while (await receive())["type"] != "http.disconnect":
            pass


async def test_requests_and_bodies_go_both_ways() -> None:
    async with serve(Application(), tls=True) as served:
        client = await connect(served)
        first, second = await client.request(POST, end=False), await client.request()
        client.h2.send_data(first, b"hello", end_stream=True)
        await client.flush()
        assert await client.until_end(first) == b"hello"
        assert await client.until_end(second) == b""


async def test_an_upload_larger_than_the_window_arrives_as_its_handler_takes_it() -> None:
    async with serve(Application(), tls=True) as served:
        client = await connect(served)
        await client.open_window(4 * MEGABYTE)
        stream_id = await client.request(POST, end=False)
        await client.open_window(4 * MEGABYTE, stream_id)
        left = MEGABYTE
        while left:
            size = min(left, client.h2.local_flow_control_window(stream_id), 16_384)
            if size:
                left -= size
                client.h2.send_data(stream_id, bytes(size), end_stream=not left)
                await client.flush()
            else:
                assert await client.read()
        assert await client.until_end(stream_id) == bytes(MEGABYTE)


async def test_an_upload_nobody_takes_stops_at_the_window_and_blocks_no_other_stream() -> None:
    class Waits(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/":
                await answer(send, 200, b"free")
            else:
                await trio.sleep_forever()

    async with serve(Waits(), tls=True) as served:
        client = await connect(served)
        stuck = await client.request([*POST[:3], (":path", "/stuck")], end=False)
        for _ in range(3):
            client.h2.send_data(stuck, bytes(16_384))
        await client.flush()
        other = await client.request()
        assert await client.until_end(other) == b"free"
        acknowledged = [event for event in client.events if isinstance(event, h2.events.WindowUpdated)]
        assert acknowledged == []


async def test_an_unread_upload_gives_its_window_back_when_its_handler_ends() -> None:
    class Ignores(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await self.go_on.wait()
            await answer(send, 200, b"whatever")

        go_on = trio.Event()

    app = Ignores()
    async with serve(app, tls=True) as served:
        client = await connect(served)
        stream_id = await client.request(POST, end=False)
        for _ in range(3):
            client.h2.send_data(stream_id, bytes(16_384))
        await client.flush()
        app.go_on.set()
        assert await client.until_end(stream_id) == b"whatever"
        assert await client.until_reset(stream_id) == ErrorCodes.NO_ERROR
        update = await client.until(h2.events.WindowUpdated, lambda event: event.stream_id == 0)
        assert update.delta == 3 * 16_384


async def test_late_data_for_a_stream_that_is_done_ends_nothing() -> None:
    class Answers(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, b"done")

    async with serve(Answers(), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request(POST, end=False)
        # Straight behind one another: the data is on its way when the response is.
        raw = stream_id.to_bytes(4)
        for _ in range(20):
            await client.client.send(b"\x00\x03\xe8\x00\x00" + raw + bytes(1000))
        assert await client.until_end(stream_id) == b"done"
        await client.client.send(b"\x00\x03\xe8\x00\x00" + raw + bytes(1000))
        other = await client.request()
        assert await client.until_end(other) == b"done"


async def test_a_response_waits_for_the_window_and_then_arrives_whole() -> None:
    app = Pours()
    async with serve(app, settings(write_timeout=3600), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        while len(client.body.get(stream_id, b"")) < 65_535:
            await client.read()
        (link,) = served.link.live
        assert app.ended == 0
        await client.open_window(4 * MEGABYTE)
        await client.open_window(4 * MEGABYTE, stream_id)
        assert await client.until_end(stream_id) == bytes(app.size) + b"end"
        assert not link.gone.is_set()


async def test_a_shut_window_costs_no_memory_and_resets_its_stream_alone() -> None:
    class Floods(Pours):
        size = 64 * MEGABYTE

    app = Floods()
    async with serve(app, tls=True) as served:
        client = await connect(served)
        with flat_memory():
            stream_id = await client.request()
            assert await client.until_reset(stream_id) == ErrorCodes.CANCEL
        await app.wait_event("http.disconnect")
        await client.open_window(MEGABYTE)
        other = await client.request([*HEADERS[:3], (":path", "/small")])
        assert await client.until_end(other) == b"small"


async def test_an_end_of_a_response_that_nobody_takes_resets_its_stream() -> None:
    class Exactly(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, bytes(65_535 + 1))

    app = Exactly()
    async with serve(app, tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        assert await client.until_reset(stream_id) == ErrorCodes.CANCEL
        await app.wait_ended()


async def test_a_send_cancelled_halfway_resets_its_stream_and_leaves_no_hole() -> None:
    half, sent = trio.Event(), trio.Event()

    class Impatient(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            with trio.CancelScope() as scope_of_send:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel, scope_of_send)
                    await send({"type": "http.response.body", "body": bytes(MEGABYTE), "more_body": True})
            await send({"type": "http.response.body", "body": b"after"})
            sent.set()

        async def _cancel(self, scope: trio.CancelScope) -> None:
            await half.wait()
            scope.cancel()

    async with serve(Impatient(), settings(write_timeout=3600), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        while len(client.body.get(stream_id, b"")) < 65_535:
            await client.read()
        half.set()
        assert await client.until_reset(stream_id) == ErrorCodes.CANCEL
        await sent.wait()


@pytest.mark.parametrize("reset", [True, False])
async def test_who_waits_for_a_window_goes_on_when_the_client_gives_up(reset: bool) -> None:
    app = Pours()
    async with serve(app, settings(write_timeout=3600), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        while len(client.body.get(stream_id, b"")) < 65_535:
            await client.read()
        if reset:
            client.h2.reset_stream(stream_id)
            await client.flush()
        else:
            client.client.socket.close()
        await app.wait_event("http.disconnect")
        await app.wait_ended()


async def test_websockets_are_not_spoken_on_http_2() -> None:
    async with serve(Application(), tls=True) as served:
        client = await connect(served)
        changed = (await client.until(h2.events.RemoteSettingsChanged)).changed_settings
        announced = changed.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
        assert announced is None or announced.new_value == 0
        stream_id = await client.request([(":method", "CONNECT"), (":authority", "localhost")], end=False)
        assert await client.until_reset(stream_id) == ErrorCodes.HTTP_1_1_REQUIRED
        other = await client.request()
        assert await client.until_end(other) == b""


@pytest.mark.parametrize("path", ["/\xe9", "https://[::1/"])
async def test_a_path_that_is_none_is_refused_alone(path: str) -> None:
    async with serve(Application(), tls=True) as served:
        client = await connect(served)
        bad = await client.request([*HEADERS[:3], (":path", path)])
        assert await client.until_reset(bad) == ErrorCodes.PROTOCOL_ERROR
        assert await client.until_end(await client.request()) == b""


async def test_streams_reset_again_and_again_do_not_pile_up_handlers() -> None:
    class Stubborn(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await trio.sleep_forever()

    app = Stubborn()
    async with serve(app, tls=True) as served:
        client = await connect(served)
        for _ in range(300):
            client.h2.reset_stream(await client.request())
            await client.flush()
        last = await client.request()
        assert await client.until_reset(last) == ErrorCodes.REFUSED_STREAM
        assert len(app.scopes) == served.config.h2_max_concurrent_streams


@pytest.mark.parametrize("how", ["by the client", "by its stall", "for a fault"])
async def test_a_connection_whose_last_stream_was_reset_expires(how: str) -> None:
    app = Pours()
    async with serve(app, settings(keep_alive=0.2), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        while len(client.body.get(stream_id, b"")) < 65_535:
            await client.read()
        if how == "by the client":
            client.h2.reset_stream(stream_id)
            await client.flush()
        elif how == "for a fault":  # data behind the end of the request
            await client.client.send(b"\x00\x00\x01\x00\x00" + stream_id.to_bytes(4) + b"x")
        await app.wait_event("http.disconnect")
        while await client.read():
            pass
        await client.client.stream.aclose()
        await served.wait_empty()


async def test_a_handler_that_stops_halfway_resets_its_stream() -> None:
    class Half(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serve(Half(), tls=True) as served:
        client = await connect(served)
        stream_id = await client.request()
        assert await client.until_reset(stream_id) == ErrorCodes.INTERNAL_ERROR


async def test_bytes_that_are_not_http_2_end_the_connection() -> None:
    async with serve(Application(), tls=True) as served:
        client = await served.connect(alpn="h2")
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.rest()
        await client.stream.aclose()
        await served.wait_empty()


async def test_a_connection_retires_after_its_number_of_requests() -> None:
    async with serve(Application(), tls=True) as served:
        served.config.keep_alive_max_requests = 2
        client = await connect(served)
        for _ in range(2):
            assert await client.until_end(await client.request()) == b""
        await client.until(h2.events.ConnectionTerminated)
        assert not await client.read()
        await client.client.stream.aclose()
        await served.wait_empty()


async def test_a_stopping_server_takes_no_more_requests() -> None:
    begun, go_on = trio.Event(), trio.Event()

    class Late(Application):
        async def http(self, scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await go_on.wait()
            await answer(send, 200, b"late")

    async with serve(Late(), tls=True) as served:
        client = await connect(served)
        first = await client.request()
        await begun.wait()
        await served.context.terminated.set()
        second = await client.request()
        assert await client.until_reset(second) == ErrorCodes.REFUSED_STREAM
        go_on.set()
        assert await client.until_end(first) == b"late"
        while await client.read():
            pass
        await served.wait_empty()
