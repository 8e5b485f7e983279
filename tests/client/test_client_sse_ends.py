"""How streams of events end, which of them a listener comes back from, and how it leaves, on a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.client.event_server import Clock, chunk, connected, joined, message, serving, take

from triocast.client import BackoffSettings, Gap, HandshakeRefused, ListenerClosed, Lost, Received


@pytest.mark.parametrize("ending", [b"0\r\n\r\n", b"", b"5\r\nda", b"nonsense\r\n"])
async def test_however_it_breaks_off_it_goes_on_where_it_was(ending: bytes, autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, asked):
        await asked.events(joined(2), message(3))
        await asked.send(ending)
        await asked.cut()
        assert await take(messages, 1) == [Received("x", "chat", 3)]
        back = await server.accept()
        assert back.path == "/sse?group=chat&format=json&since=e:3"
        await back.events(joined(3), message(4), message(6))
        assert await take(messages, 3) == [
            Received("x", "chat", 4),
            Gap("chat", 5, 5, "untold"),
            Received("x", "chat", 6),
        ]
    assert [lost.why for lost in losses] == ["closed with 1006: without a goodbye"]


async def test_a_close_event_that_lets_it_come_back_is_a_loss(autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, asked):
        before = trio.current_time()
        await asked.close(1012, "restarting")
        back = await server.accept()
        (lost,) = losses
        assert lost.why == "closed with 1012: restarting"
        assert trio.current_time() == pytest.approx(before + lost.delay)
        await back.events(joined(0), message(1))
        assert await take(messages, 1) == [Received("x", "chat", 1)]


@pytest.mark.parametrize("code", [1008, 3503, 4500])
async def test_a_close_event_that_says_not_to_come_back_is_the_end(code: int, autojump_clock: Clock) -> None:
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events(joined(0), message(1))
        await asked.close(code, "you may not")
        assert await take(messages, 1) == [Received("x", "chat", 1)]
        with pytest.raises(ListenerClosed) as caught:
            await anext(messages)
        assert (caught.value.close_code, caught.value.reason) == (code, "you may not")
    assert server.dialled == 1


async def test_a_normal_close_event_ends_the_messages_calmly(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server) as (messages, asked):
        await asked.events(joined(0), message(1))
        await asked.close(1000, "")
        assert [item async for item in messages] == [Received("x", "chat", 1)]
    assert server.dialled == 1


async def test_without_reconnect_every_loss_is_the_end(autojump_clock: Clock) -> None:
    async with serving() as server, connected(server, reconnect=False) as (messages, asked):
        await asked.cut()
        with pytest.raises(ListenerClosed, match="closed with 1006"):
            await anext(messages)


async def test_a_refusal_on_coming_back_is_final_unless_it_may_pass(autojump_clock: Clock) -> None:
    backoff = BackoffSettings(floor=1, first=1, cap=8)
    losses: list[Lost] = []
    async with (
        serving(backoff=backoff) as server,
        connected(server, on_lost=losses.append) as (messages, asked),
    ):
        await asked.cut()
        server.answer(b"HTTP/1.1 503 Leaving\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(HandshakeRefused, match="refused with 403"):
            await trio.testing.wait_all_tasks_blocked()
            server.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await anext(messages)
    assert [lost.why.split(":")[0] for lost in losses] == ["closed with 1006", "refused with 503"]


async def test_comments_are_signs_of_life_and_without_any_the_server_is_gone(autojump_clock: Clock) -> None:
    losses: list[Lost] = []
    async with serving(max_silence=30) as server, connected(server, on_lost=losses.append) as (_, asked):
        for _beat in range(100):
            await trio.sleep(29)
            await asked.send(chunk(b": \n\n"))
        assert losses == []
        silent = trio.current_time()
        back = server.accept()
        await back
        (lost,) = losses
        assert lost.why == "closed with 1006: no sign of life in 30 s"
        assert trio.current_time() == pytest.approx(silent + 30 + lost.delay)


async def test_leaving_closes_the_socket_and_leaves_no_task_behind(autojump_clock: Clock) -> None:
    async with serving(max_waiting=1) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(server) as (_, asked):
            await asked.events(joined(0), *map(message, range(1, 51)))  # nobody reads them
        await asked.left()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() == 0


async def test_cancelled_it_closes_the_socket_at_once(autojump_clock: Clock) -> None:
    async with serving() as server:
        with trio.move_on_after(5):
            async with connected(server) as (messages, asked):
                await anext(messages)
        await asked.left()
        assert trio.current_time() == pytest.approx(5)
