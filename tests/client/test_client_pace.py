"""Silent servers, slow consumers, and the end of a listener: who waits for whom, and how long, on a virtual clock."""

from contextlib import suppress

import pytest
import trio
import trio.testing
import trio_websocket
from tests.client.websocket_server import connected, serving


async def test_a_server_that_answers_pings_is_kept_however_silent(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (messages, websocket):
        await trio.sleep(86_400)
        await websocket.send_message("good morning")
        assert (await anext(messages)).data == "good morning"
    assert losses == []


async def test_a_server_that_is_gone_without_a_word_is_noticed(autojump_clock):
    losses = []
    async with serving() as server, connected(server, on_lost=losses.append) as (_, websocket):
        silent = trio.current_time()
        # From here on nobody reads at the other end, but nothing is closed either.
        websocket._reader_running = False
        await websocket.send_message("the last that is heard of it")
        await server.accept()
        assert trio.current_time() - silent == pytest.approx(30, abs=1)
    assert [lost.why for lost in losses] == ["closed with 1006: no sign of life in 10 s"]


async def test_a_consumer_that_takes_its_time_is_not_a_server_that_is_gone(autojump_clock):
    losses = []
    async with (
        serving(pair=trio.testing.lockstep_stream_pair, settings={"max_waiting": 2}) as server,
        connected(server, on_lost=losses.append) as (messages, websocket),
    ):

        async def send_all():
            for number in range(20):
                await websocket.send_message(str(number))

        server.soon(send_all)
        await trio.sleep(3600)
        assert [(await anext(messages)).data for _ in range(20)] == [str(number) for number in range(20)]
    assert losses == []


async def test_a_consumer_that_does_not_read_holds_the_server_back(autojump_clock):
    sent = []

    async def send_all(websocket):
        with suppress(trio_websocket.ConnectionClosed):
            for number in range(100):
                await websocket.send_message(str(number))
                sent.append(number)

    async with (
        serving(pair=trio.testing.lockstep_stream_pair, settings={"max_waiting": 5}) as server,
        connected(server) as (_, websocket),
    ):
        server.soon(send_all, websocket)
        await trio.testing.wait_all_tasks_blocked()
        # Five wait, one is on its way into the queue, one is in the hands of the reader.
        assert len(sent) == 7


async def test_leaving_says_goodbye_and_leaves_no_task_behind(autojump_clock):
    async with serving() as server:
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(server) as (_, websocket):
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert websocket.closed.code == 1000
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() == 0


async def test_leaving_waits_no_longer_than_the_close_timeout(autojump_clock):
    async with serving() as server:
        async with connected(server) as (_, websocket):
            websocket._reader_running = False
            await websocket.send_message("now the server's reader ends at the next frame")
        assert trio.current_time() == pytest.approx(2)


async def test_leaving_with_messages_unread_takes_no_time(autojump_clock):
    async with serving(settings={"max_waiting": 1}) as server:
        async with connected(server) as (_, websocket):
            for _ in range(50):
                await websocket.send_message("unread")
        assert trio.current_time() == 0


async def test_cancelled_it_closes_the_socket_at_once(autojump_clock):
    async with serving() as server:
        with trio.move_on_after(5):
            async with connected(server) as (messages, websocket):
                await anext(messages)
        assert trio.current_time() == pytest.approx(5)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await websocket.get_message()


async def test_leaving_between_two_connections_takes_no_time(autojump_clock):
    lost = trio.Event()
    async with serving() as server:
        async with connected(server, on_lost=lambda _: lost.set()) as (_, websocket):
            await websocket._stream.aclose()
            await lost.wait()
        assert trio.current_time() == 0


async def test_an_exception_in_the_block_comes_out_as_it_is(autojump_clock):
    async with serving() as server:
        error = KeyError("mine")
        caught = None
        try:
            async with connected(server) as (_, websocket):
                raise error
        except KeyError as exception:
            caught = exception
        assert caught is error
        await trio.testing.wait_all_tasks_blocked()
        assert websocket.closed.code == 1000
