"""Which ends of a connection a listener comes back from, and when, on a virtual clock."""

import pytest
import trio
import trio.testing
from tests.client.websocket_server import FORBIDDEN, connected, gather, serving

from triocast.client import BackoffSettings, HandshakeRefused, ListenerClosed


async def test_a_lost_connection_is_made_anew_after_a_wait(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await websocket.send_message("before")
        assert (await anext(messages)).data == "before"
        before = trio.current_time()
        server.soon(websocket.aclose, 1012, "the server is restarting")
        again = await server.accept()
        (lost,) = losses
        assert lost.why == "closed with 1012: the server is restarting"
        assert 0.1 <= lost.delay <= 1
        assert trio.current_time() == pytest.approx(before + lost.delay)
        await again.send_message("after")
        assert (await anext(messages)).data == "after"


async def test_a_connection_that_breaks_off_is_a_loss_too(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await websocket._stream.aclose()
        again = await server.accept()
        await again.send_message("after")
        assert (await anext(messages)).data == "after"
    assert [lost.why for lost in losses] == ["closed with 1006: without a goodbye"]


async def test_waits_grow_while_the_server_stays_away_and_end_when_it_is_back(autojump_clock):
    losses = []
    backoff = BackoffSettings(floor=1, first=1, cap=8)
    async with (
        serving(settings={"backoff": backoff}) as server,
        connected(server, on_lost=losses.append) as (messages, websocket),
    ):
        server.soon(websocket.aclose, 1012, "restarting")
        for _ in range(5):
            await server.reject(503, b'{"error": {"code": "shutting_down", "message": "leaving"}}')
        again = await server.accept()
        await again.send_message("back")
        assert (await anext(messages)).data == "back"
    assert [lost.lasted for lost in losses] == [0, None, None, None, None, None]
    assert [lost.why for lost in losses[1:]] == ["refused with 503: leaving"] * 5
    assert all(1 <= lost.delay <= ceiling for lost, ceiling in zip(losses, (1, 2, 4, 8, 8, 8), strict=True))


@pytest.mark.parametrize("code", [1008, 3503, 4500])
async def test_a_close_that_says_not_to_come_back_ends_the_messages_with_its_reason(code, autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket.send_message("last")
        server.soon(websocket.aclose, code, "you may not")
        assert (await anext(messages)).data == "last"
        with pytest.raises(ListenerClosed) as caught:
            await anext(messages)
        assert (caught.value.close_code, caught.value.reason) == (code, "you may not")
        assert "ended" in repr(messages)
    assert server.dialled == 1


async def test_a_normal_close_ends_the_messages_calmly(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket.send_message("last")
        server.soon(websocket.aclose, 1000)
        assert await gather(messages) == ["last"]
    assert server.dialled == 1


async def test_without_reconnect_every_loss_is_the_end(autojump_clock):
    async with serving() as server, connected(server, reconnect=False) as (messages, websocket):
        server.soon(websocket.aclose, 1012, "restarting")
        with pytest.raises(ListenerClosed, match="closed with 1012: restarting"):
            await anext(messages)


async def test_a_refusal_on_coming_back_is_final(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket._stream.aclose()
        server.soon(server.reject, 403, FORBIDDEN)
        with pytest.raises(HandshakeRefused, match="that is not for you"):
            await anext(messages)


async def test_frames_that_are_none_end_the_connection_and_it_is_made_anew(autojump_clock):
    async with serving() as server, connected(server) as (messages, websocket):
        await websocket._stream.send_all(b"\xff" * 20)
        again = await server.accept()
        await again.send_message("after")
        assert (await anext(messages)).data == "after"
