"""What the application is told of joins and leaves: in order, never at a server's expense, to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from triocast import Connection, Draft, Happening, Reason, Settings, Triocast
from triocast.connection import open_connection
from triocast.core.presence import Departed, Entered, Member
from triocast.engines.memory import MemoryEngine
from triocast.hooks import Hook, Hooks
from triocast.hub import Hub
from triocast.testing import MemoryTransport, simulate

Clock = trio.testing.MockClock


@asynccontextmanager
async def running(**values: Any) -> AsyncIterator[tuple[Triocast, Hub]]:
    """Give a Triocast whose hub runs without an application."""
    push = Triocast(settings=Settings(**values), harden=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(push.hub.run)
        yield push, push.hub
        push.hub.stop()


async def visit(hub: Hub, group: str = "g") -> str:
    """Join a group and leave it."""
    async with open_connection(hub, MemoryTransport(), [group]) as connection:
        return connection.id


def note_all(push: Triocast, seen: list[tuple[str, str]]) -> None:
    async def note(happening: Happening) -> None:
        await trio.sleep(0.01)
        seen.append((happening.hook.value, happening.group))

    for on in (push.on_join, push.on_leave, push.on_move, push.on_occupied, push.on_vacated):
        on(note)


async def test_they_are_told_what_happened_in_its_order(autojump_clock: Clock) -> None:
    seen: list[tuple[str, str]] = []
    async with running() as (push, hub):
        note_all(push, seen)
        async with open_connection(hub, MemoryTransport(), ["a"]):
            await visit(hub, "a")
            await visit(hub, "b")
        await trio.sleep(1)
    expected = "occupied a, join a, join a, leave a, occupied b, join b, leave b, vacated b, leave a, vacated a"
    assert ", ".join(f"{hook} {group}" for hook, group in seen) == expected


async def test_they_know_who_it_was_and_why(autojump_clock: Clock) -> None:
    seen: list[Happening] = []
    async with running() as (push, hub):

        @push.on_leave
        async def note(happening: Happening) -> None:
            seen.append(happening)

        client = await visit(hub)
        await trio.sleep(1)
    assert seen == [Happening(Hook.LEAVE, "g", Member(client), Reason.LEFT)]


async def test_several_handlers_of_one_kind_are_called_one_after_the_other(autojump_clock: Clock) -> None:
    seen: list[str] = []
    async with running() as (push, hub):

        @push.on_join
        async def slow(happening: Happening) -> None:
            await trio.sleep(1)
            seen.append("slow")

        @push.on_join
        async def quick(happening: Happening) -> None:
            seen.append("quick")

        await visit(hub)
        await visit(hub)
        await trio.sleep(5)
    assert seen == ["slow", "quick", "slow", "quick"]


async def test_one_that_raises_is_logged_and_counted_and_the_others_go_on(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    async with running() as (push, hub):

        @push.on_join
        async def broken(happening: Happening) -> None:
            raise KeyError("broken")

        @push.on_join
        async def fine(happening: Happening) -> None:
            seen.append(happening.group)

        await visit(hub, "a")
        await visit(hub, "b")
        await trio.sleep(1)
        assert seen == ["a", "b"]
        assert hub.hooks.failed[Hook.JOIN] == 2
    assert [record.getMessage() for record in caplog.records] == ["a handler of on_join failed"] * 2


async def test_one_that_hangs_is_cancelled_after_its_time(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[float] = []
    async with running(hook_timeout=3) as (push, hub):

        @push.on_join
        async def hangs(happening: Happening) -> None:
            await trio.sleep_forever()

        @push.on_leave
        async def fine(happening: Happening) -> None:
            seen.append(trio.current_time())

        began = trio.current_time()
        await visit(hub)
        await trio.sleep(10)
        assert seen == [pytest.approx(began + 3)]
        assert (hub.hooks.failed[Hook.JOIN], hub.hooks.failed[Hook.LEAVE]) == (1, 0)
    assert "took too long" in caplog.text


async def test_a_full_queue_drops_and_counts_and_holds_nobody_up(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(hook_queue=5, hook_timeout=60, close_timeout=1) as (push, hub):
        called = 0

        @push.on_join
        async def hangs(happening: Happening) -> None:
            nonlocal called
            called += 1
            await trio.sleep(50)

        listener = MemoryTransport()
        async with open_connection(hub, listener, ["g"]):
            began = trio.current_time()
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(20):
                await visit(hub)
                await hub.publish("g", Draft.of("x"))
            await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() == began
            assert len(listener.received) == 20
            assert (called, len(hub.hooks), hub.hooks.dropped[Hook.JOIN]) == (1, 5, 15)
    assert [record.levelname for record in caplog.records if "full" in record.getMessage()] == ["WARNING"]
    assert hub.hooks.dropped[Hook.JOIN] == 20  # what was waiting had no time any more


async def test_what_nobody_wants_to_know_takes_no_place() -> None:
    hooks = Hooks(1, 1.0)
    hooks.noticed("g", [Entered(Member("a"))], occupied=True, vacated=False)

    async def handler(happening: Happening) -> None: ...

    hooks.add(Hook.LEAVE, handler)
    hooks.noticed("g", [Entered(Member("a"))], occupied=True, vacated=False)
    assert len(hooks) == 0
    hooks.noticed("g", [Departed(Member("a"), Reason.LOST)], occupied=False, vacated=True)
    assert len(hooks) == 1
    assert sum(hooks.dropped.values()) == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_happens_as_the_server_stops_is_told(cancelled: bool, autojump_clock: Clock) -> None:
    seen: list[tuple[str, str]] = []
    push = Triocast(settings=Settings(presence_grace=60), harden=False)
    note_all(push, seen)
    async with trio.open_nursery() as nursery:
        await nursery.start(push.hub.run)
        async with open_connection(push.hub, MemoryTransport(), ["a", "b"]):
            await trio.sleep(1)
            seen.clear()
            push.hub.stop()
            if cancelled:  # as a server does that has called us
                nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
    assert sorted(seen) == [("leave", "a"), ("leave", "b"), ("vacated", "a"), ("vacated", "b")]


async def test_a_handler_at_work_as_the_server_stops_comes_to_its_end(autojump_clock: Clock) -> None:
    done: list[str] = []
    async with running(close_timeout=5) as (push, hub):

        @push.on_join
        async def writes(happening: Happening) -> None:
            await trio.sleep(3)
            done.append(happening.group)

        await visit(hub)
        await trio.testing.wait_all_tasks_blocked()
        hub.stop()
    assert done == ["g"]


async def test_all_of_them_together_have_the_close_timeout_and_no_more(autojump_clock: Clock) -> None:
    done: list[str] = []
    began = trio.current_time()
    async with running(close_timeout=5, hook_timeout=60) as (push, hub):

        @push.on_join
        async def writes(happening: Happening) -> None:
            await trio.sleep(3)
            done.append(happening.group)

        for group in "abcd":
            await visit(hub, group)
        hub.stop()
    assert trio.current_time() - began == pytest.approx(5)
    assert done == ["a"]
    assert (hub.hooks.failed[Hook.JOIN], hub.hooks.dropped[Hook.JOIN], len(hub.hooks)) == (1, 2, 0)


async def test_one_at_work_as_the_server_stops_has_no_more_either(autojump_clock: Clock) -> None:
    began = trio.current_time()
    async with running(close_timeout=5, hook_timeout=60) as (push, hub):

        @push.on_join
        async def hangs(happening: Happening) -> None:
            await trio.sleep_forever()

        await visit(hub)
        await trio.testing.wait_all_tasks_blocked()
        hub.stop()
    assert trio.current_time() - began == pytest.approx(5)


async def test_a_server_that_begins_again_gives_handlers_their_time_again(autojump_clock: Clock) -> None:
    push = Triocast(settings=Settings(hook_timeout=3), harden=False)
    done: list[str] = []

    @push.on_join
    async def writes(happening: Happening) -> None:
        await trio.sleep(2)
        done.append(happening.group)

    for group in "ab":
        async with trio.open_nursery() as nursery:
            await nursery.start(push.hub.run)
            await trio.sleep(100)
            await visit(push.hub, group)
            await trio.sleep(100)
            push.hub.stop()
    assert done == ["a", "b"]


async def test_a_handler_may_publish_and_join(autojump_clock: Clock) -> None:
    async with running() as (push, hub):
        connections: dict[str, Connection] = {}

        @push.on_join
        async def welcome(happening: Happening) -> None:
            assert happening.member is not None
            if happening.group == "lobby":
                await push.group("room").add(connections[happening.member.client])
            await push.group("room").send(f"welcome to {happening.group}")

        transport = MemoryTransport()
        async with open_connection(hub, transport) as connection:
            connections[connection.id] = connection
            await push.group("lobby").add(connection)
            await trio.sleep(1)
            assert connection.groups == ["lobby", "room"]
            assert [each.data for each in transport.received] == [  # type: ignore[union-attr]
                b"welcome to lobby",
                b"welcome to room",
            ]


async def test_a_function_that_is_not_async_is_refused() -> None:
    push = Triocast(harden=False)

    def handler(happening: Happening) -> None: ...

    for on in (push.on_join, push.on_leave, push.on_move, push.on_occupied, push.on_vacated):
        with pytest.raises(TypeError, match="needs an async function"):
            on(handler)  # type: ignore[type-var]


async def test_an_application_is_told_of_what_its_clients_did_as_it_ended(autojump_clock: Clock) -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    seen: list[tuple[str, str]] = []
    note_all(push, seen)

    @app.websocket("/ws")
    async def ws() -> None:
        async with push.connect("g") as connection:
            await connection.receive()

    async with simulate(app) as world:
        await world.connect("/ws")
        await trio.sleep(1)
    assert seen == [("occupied", "g"), ("join", "g"), ("leave", "g"), ("vacated", "g")]


async def test_two_hubs_have_their_own() -> None:
    one, two = (Hub(Settings(), MemoryEngine(Settings())) for _ in range(2))

    async def handler(happening: Happening) -> None: ...

    one.hooks.add(Hook.JOIN, handler)
    for hub in (one, two):
        hub.noticed("g", [Entered(Member("a"))], occupied=True, vacated=False)
    assert (len(one.hooks), len(two.hooks)) == (1, 0)
