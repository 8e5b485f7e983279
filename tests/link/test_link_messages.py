"""What a WebSocket client sends is bounded in bytes, before it has come."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.link.harness import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Application,
    Client,
    close_frame,
    frame,
    serve,
    settings,
)
from tests.memory import flat_memory

KIB = 1024
MIB = 1024 * KIB
SMALL = settings(max_message=10 * KIB)


async def pour(client: Client, piece: bytes, times: int) -> None:
    """Send `piece` so many times, as long as somebody takes it."""
    try:
        for _ in range(times):
            await client.send(piece)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_exactly_the_limit_is_delivered(opcode: int) -> None:
    async with serve(Application(), SMALL) as served:
        client = await served.websocket()
        await client.send(frame(opcode, b"x" * 10 * KIB))
        assert await client.frame() == (opcode, b"x" * 10 * KIB)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_one_byte_more_is_refused_with_a_reason_that_names_the_limit(opcode: int) -> None:
    app = Application()
    async with serve(app, SMALL) as served:
        client = await served.websocket()
        await client.send(frame(opcode, b"x" * (10 * KIB + 1)))
        code, reason = await client.close()
        assert code == 1009
        assert "10240 bytes" in reason
        assert await app.wait_event("websocket.disconnect") == {
            "type": "websocket.disconnect",
            "code": 1009,
            "reason": reason,
        }
        assert [event["type"] for event in app.events] == ["websocket.connect", "websocket.disconnect"]
        assert await client.eof() == b""


async def test_text_is_counted_in_bytes() -> None:
    async with serve(Application(), SMALL) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, "é".encode() * 5 * KIB))
        assert await client.frame() == (TEXT, "é".encode() * 5 * KIB)
        await client.send(frame(TEXT, "é".encode() * 5 * KIB + b"x"))
        assert (await client.close())[0] == 1009


async def test_a_header_that_announces_too_much_is_refused_before_a_byte_of_it() -> None:
    async with serve(Application(), SMALL) as served:
        client = await served.websocket()
        await client.send(frame(BINARY, announce=1 << 62))
        assert (await client.close())[0] == 1009


async def test_fragments_are_counted_together_and_control_frames_between_them_are_not() -> None:
    async with serve(Application(), SMALL) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, b"a" * 5 * KIB, fin=False) + frame(PING, b"p" * 125))
        assert await client.frame() == (PONG, b"p" * 125)
        await client.send(frame(0, b"b" * 5 * KIB, fin=True))
        assert await client.frame() == (TEXT, b"a" * 5 * KIB + b"b" * 5 * KIB)
        await client.send(frame(TEXT, b"a" * 5 * KIB, fin=False) + frame(0, b"b" * (5 * KIB + 1), fin=True))
        assert (await client.close())[0] == 1009


async def test_messages_before_the_one_that_is_too_large_are_delivered() -> None:
    app = Application()
    async with serve(app, SMALL) as served:
        client = await served.websocket()
        await client.send(frame(TEXT, b"small") + frame(TEXT, announce=MIB))
        assert (await client.close())[0] == 1009
        await app.wait_ended()
        assert [event.get("text") for event in app.events] == [None, "small", None]


async def test_empty_messages_of_both_kinds_arrive() -> None:
    app = Application()
    async with serve(app) as served:
        client = await served.websocket()
        await client.send(frame(TEXT) + frame(BINARY))
        assert await client.frame() == (TEXT, b"")
        assert await client.frame() == (BINARY, b"")
        assert [event.get("bytes") for event in app.events[1:]] == [None, b""]


async def test_an_endless_frame_costs_no_memory_and_ends() -> None:
    app = Application()
    async with serve(app, SMALL) as served:
        client = await served.websocket()
        with flat_memory():
            await pour(client, frame(BINARY, announce=1 << 40), 1)
            await pour(client, bytes(64 * KIB), 800)
            await served.wait_empty()
        await app.wait_ended()


async def test_endless_fragments_cost_no_memory_and_end() -> None:
    app = Application()
    async with serve(app, SMALL) as served:
        client = await served.websocket()
        with flat_memory():
            await pour(client, frame(TEXT, b"x", fin=False), 1)
            await pour(client, frame(0, b"x", fin=False) * 8000, 100)
            await served.wait_empty()
        await app.wait_ended()


async def test_messages_that_no_handler_takes_cost_no_memory() -> None:
    class Deaf(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await trio.sleep_forever()

    async with serve(Deaf()) as served:
        client = await served.websocket()
        with flat_memory(), trio.move_on_after(0.5):
            await pour(client, frame(TEXT, b"x" * 60_000), 800)
        assert len(served.link.live) == 1


async def test_a_small_message_between_large_ones_is_not_reordered() -> None:
    async with serve(Application()) as served:
        client = await served.websocket()
        messages = [b"%d" % number * (number % 700) for number in range(400)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"".join(frame(TEXT, message) for message in messages))
            for message in messages:
                assert await client.frame() == (TEXT, message)


async def test_after_1009_the_answer_of_the_client_ends_the_connection_at_once() -> None:
    async with serve(Application(), settings(max_message=10, close_timeout=3600)) as served:
        client = await served.websocket()
        await client.send(frame(BINARY, b"x" * 1000))
        assert (await client.close())[0] == 1009
        await client.send(frame(TEXT, b"more") + close_frame(1009))
        await served.wait_empty()


async def test_pings_are_answered_while_the_handler_is_busy() -> None:
    class Busy(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await trio.sleep_forever()

    async with serve(Busy()) as served:
        client = await served.websocket()
        await client.send(frame(PING, b"are you there?"))
        assert await client.frame() == (PONG, b"are you there?")
        await client.send(frame(CLOSE))
        assert (await client.frame())[0] == CLOSE
