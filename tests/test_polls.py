"""When a poll is answered, and with what, on a virtual clock: waits, engines that are away, ends of all kinds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from tests.polling import SCOPE, Request
from tests.test_told import publish, running_hub
from triocast import ConnectionEnded, EngineUnavailable, Gap, GapReason, Kind, Message
from triocast.connection import Connection
from triocast.core.message import Position
from triocast.core.recovery import OLDEST
from triocast.core.wire import Joined
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.errors import RESTART
from triocast.hub import Hub
from triocast.reception import Reception
from triocast.transports.events import Call
from triocast.transports.poll import MAX_WAIT, Polling, PollTransport


class Away(MemoryEngine):
    """History can't be read until `back`."""

    back = float("inf")

    async def read(self, group: str, after: int, limit: int) -> Page:
        page = await super().read(group, after, limit)
        if limit > 1 and trio.current_time() < self.back:  # one is read to see where to begin
            raise EngineUnavailable("away")
        return page


async def _position(hub: Hub, offset: int) -> Position:
    return Position((await hub.info("g")).epoch, offset)


def _the_connection(hub: Hub) -> Connection:
    (connection,) = hub.roster
    assert isinstance(connection, Connection)
    return connection


@pytest.mark.parametrize("wait", [0, 0.5, 30, MAX_WAIT])
async def test_an_answer_that_there_is_nothing_comes_when_the_wait_is_over(
    wait: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub() as hub:
        began = trio.current_time()
        answer = await Request().ask(Reception(hub), Polling("g", wait=wait))
        assert trio.current_time() - began == wait
        assert answer["messages"] == []


async def test_what_was_missed_is_answered_at_once_however_short_the_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        await publish(hub, "g", 3)
        for wait in (0, 60):
            answer = await Request().ask(Reception(hub), Polling("g", await _position(hub, 1), wait=wait))
            assert [each["offset"] for each in answer["messages"]] == [2, 3]
        assert trio.current_time() == 0


@pytest.mark.parametrize(("wait", "until"), [(0, 5), (3, 5), (30, 30)])
async def test_while_what_was_missed_can_not_be_read_a_poll_waits_and_is_refused_in_the_end(
    wait: float, until: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(Away, engine_timeout=5) as hub:
        await publish(hub, "g", 3)
        request = Request()
        answer = await request.ask(Reception(hub), Polling("g", await _position(hub, 1), wait=wait))
        assert (request.status, answer["error"]["code"], trio.current_time()) == (503, "unavailable", until)
        assert request.headers[b"retry-after"] == b"1"
        assert (hub.connections, hub.groups) == (0, 0)


async def test_what_can_be_read_again_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub(Away) as hub:
        await publish(hub, "g", 3)
        assert isinstance(hub.engine, Away)
        hub.engine.back = 7
        answer = await Request().ask(Reception(hub), Polling("g", await _position(hub, 1)))
        assert [each["offset"] for each in answer["messages"]] == [2, 3]
        assert 7 <= trio.current_time() < 12


async def test_a_gap_is_told_when_what_follows_it_can_not_be_read(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub(Away, recovery_limit=2) as hub:
        await publish(hub, "g", 5)
        answer = await Request().ask(Reception(hub), Polling("g", await _position(hub, 1), wait=9))
        assert [(each["gap"]["from"], each["gap"]["to"]) for each in answer["messages"]] == [(2, 3)]
        assert (answer["next"], trio.current_time()) == (str(await _position(hub, 3)), 9)


async def test_who_is_taken_out_of_the_group_is_told_and_knows_where_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub, trio.open_nursery() as nursery:
        await publish(hub, "g", 2)
        reception, answers = Reception(hub), list[Any]()

        async def poll() -> None:
            answers.append(await Request().ask(reception, Polling("g")))

        nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked()
        await _the_connection(hub).leave("g")
        await trio.testing.wait_all_tasks_blocked()
        (answer,) = answers
        assert answer["messages"][0]["left"]["offset"] == 2
        assert answer["next"] == str(await _position(hub, 2))
        assert trio.current_time() == 0


async def test_a_message_for_the_client_alone_has_no_place_in_an_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub, trio.open_nursery() as nursery:
        request = Request()
        nursery.start_soon(request.ask, Reception(hub), Polling("g"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionEnded, match="is gone"):
            await _the_connection(hub).send("for you")
        request.gone.set()


@pytest.mark.parametrize("since", [None, Position("gone", 7), OLDEST])
async def test_who_is_told_to_go_before_it_was_told_anything_still_learns_where_it_stands(
    since: Position | None, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(Away) as hub, trio.open_nursery() as nursery:
        await publish(hub, "g", 3)
        request = Request()
        nursery.start_soon(request.ask, Reception(hub), Polling("g", since))
        while not hub.opened_groups() or not _the_connection(hub).opened:
            await trio.lowlevel.checkpoint()
        _the_connection(hub).end(RESTART)
        await trio.testing.wait_all_tasks_blocked()
        expected = {None: f"{await _position(hub, 3)}", OLDEST: None}.get(since, str(since))
        assert (request.status, json.loads(request.body).get("next")) == (503 if expected is None else 200, expected)


async def test_what_comes_behind_the_messages_of_an_answer_is_the_next_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        request = Request()
        transport = PollTransport(Call({**SCOPE}, request.receive, request.send), Polling("g"), hub.settings, None)
        message = Message("g", "e", 1, Kind.TEXT, b"x")
        await transport.send([Joined("g", "e", 0, "drop_oldest", "client")])
        await transport.wait_writable()
        await transport.send([Gap("g", "e", 1, 1, GapReason.LOST)])
        await transport.wait_writable()
        await transport.send([message])
        with trio.move_on_after(1000) as patience:
            await transport.wait_writable()
        assert patience.cancelled_caught


async def test_who_takes_nothing_of_an_answer_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Where the server under us gives writes no deadline."""
    async with running_hub(write_timeout=4) as hub:
        await publish(hub, "g", 1)
        request = Request(slow=100)
        assert await request.ask(Reception(hub), Polling("g", await _position(hub, 0))) is None
        assert trio.current_time() == 4
        assert (hub.connections, hub.groups) == (0, 0)


async def test_whoever_is_cut_off_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub:
        request = Request()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.ask, Reception(hub), Polling("g"))
            await trio.testing.wait_all_tasks_blocked()
            assert (hub.connections, hub.groups) == (1, 1)
            request.gone.set()
        assert (hub.connections, hub.groups, request.status) == (0, 0, 0)


async def test_a_reception_that_is_over_refuses_and_answers_whoever_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub, trio.open_nursery() as nursery:
        request = Request()
        nursery.start_soon(request.ask, Reception(hub), Polling("g"))
        await trio.testing.wait_all_tasks_blocked()
        hub.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert (request.status, request.whole, trio.current_time()) == (200, True, 0)
