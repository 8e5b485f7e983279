"""What a connection tells its client beside messages: where a group's stream begins, and what is missing from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from triocast import Connection, Draft, Gap, GapReason, Message, Policy, Settings
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST, wish_of
from triocast.core.wire import JSON, RAW, Format, Joined, Left
from triocast.core.wire.sse import SSE_MANY
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.testing import MemoryTransport

MakeEngine = Callable[[Settings], MemoryEngine]


@asynccontextmanager
async def running_hub(make_engine: MakeEngine = MemoryEngine, **values: Any) -> AsyncIterator[Hub]:
    settings = Settings(**values)
    hub = Hub(settings, make_engine(settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        hub.stop()


async def publish(hub: Hub, group: str, count: int) -> None:
    for number in range(count):
        await hub.publish(group, Draft.of(number))


def told(transport: MemoryTransport) -> list[Any]:
    """Shorten what a client was told: offsets for messages, (first, last) for gaps, "group@offset" for beginnings
    and "group!offset" for ends."""
    short: list[Any] = []
    for item in transport.received:
        match item:
            case Message(offset=offset):
                short.append(offset)
            case Gap(first=first, last=last):
                short.append((first, last))
            case Joined(group=group, offset=offset):
                short.append(f"{group}@{offset}")
            case Left(group=group, offset=offset):
                short.append(f"{group}!{offset}")
    return short


async def test_a_stream_in_json_begins_with_where_it_stands(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub(policy=Policy.LATEST) as hub:
        await publish(hub, "a", 7)
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["a"]) as connection:
            await publish(hub, "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            epoch = (await hub.info("a")).epoch
            assert transport.received[0] == Joined("a", epoch, 7, "latest", connection.id)
            assert told(transport) == ["a@7", 8, 9]


async def test_a_raw_stream_begins_with_its_first_message(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(RAW)
        async with open_connection(hub, transport, ["a"]):
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == [1]


async def test_a_group_that_nobody_publishes_to_is_greeted_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["a"]) as connection:
            await connection.join("b")
            await connection.join("b")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", "b@0"]
            assert (await hub.info("a")).behind == 0


async def test_a_client_that_has_not_been_greeted_is_behind(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["a"]):
            receipt = await hub.publish("a", Draft.of(1))
            assert (receipt.subscribers, receipt.behind) == (1, 1)
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", 1]


async def test_who_lags_before_its_greeting_is_told_of_both_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub(max_lag=3) as hub:
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["a"]):
            await publish(hub, "a", 10)
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", (1, 7), 8, 9, 10]


async def test_a_group_that_is_joined_again_begins_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub:
        transport, other = MemoryTransport(JSON), MemoryTransport()
        async with open_connection(hub, other, ["a"]), open_connection(hub, transport, ["a"]) as connection:
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("a")
            await publish(hub, "a", 1)
            await connection.join("a")
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", 1, "a!1", "a@2", 3]


async def test_a_group_that_is_left_before_its_greeting_is_never_heard_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport) as connection:
            for _ in range(100):
                await connection.join("a")
                await connection.leave("a")
            await connection.join("b")
            assert len(connection._outbound._greetings) == len(connection._outbound) == 1
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["b@0"]


# Leaving


@pytest.mark.parametrize("form", [JSON, SSE_MANY])
async def test_who_is_taken_out_of_a_group_is_told_after_all_that_it_was_given(
    form: Format, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(form)
        async with open_connection(hub, transport, ["a", "b"]) as connection:
            await trio.testing.wait_all_tasks_blocked()
            await publish(hub, "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            epoch = (await hub.info("a")).epoch
            await connection.leave("a")
            await connection.leave("a")
            await publish(hub, "a", 1)
            await publish(hub, "b", 1)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", "b@0", 1, 2, "a!2", 1]
            assert Left("a", epoch, 2) in transport.received
            await connection.leave("b")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport)[-1] == "b!1"
            assert not connection.ended


async def test_a_raw_client_has_no_room_for_that(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(RAW)
        async with open_connection(hub, transport, ["a", "b"]) as connection:
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("a")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == [1]


@pytest.mark.parametrize(
    ("settings", "count"), [({}, 5), ({"max_lag": 3, "policy": Policy.DROP_NEWEST}, 9)], ids=["behind", "frozen"]
)
async def test_of_what_a_slow_client_was_not_given_when_it_was_taken_out_it_gets_nothing_but_how_far_it_came(
    autojump_clock: trio.testing.MockClock, settings: dict[str, Any], count: int
) -> None:
    async with running_hub(**settings) as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["a"]) as connection:
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            transport.stall()
            await publish(hub, "a", count)
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("a")
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", 1, "a!1"]


class SlowEngine(MemoryEngine):
    """Reads history a message at a time; the tests say when."""

    go_on = trio.Event()

    async def read(self, group: str, after: int, limit: int) -> Page:
        await self.go_on.wait()
        return await super().read(group, after, 1)


@pytest.mark.parametrize(("steps", "expected"), [(1, ["b@0"]), (2, ["b@0", "a@0", 1, "a!1"])])
async def test_who_is_taken_out_while_it_recovers_is_told_how_far_it_came(
    steps: int, expected: list[Any], autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(SlowEngine) as hub:
        await publish(hub, "a", 3)
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["b"]) as connection, trio.open_nursery() as nursery:
            SlowEngine.go_on = trio.Event()
            nursery.start_soon(connection.join, "a", wish_of(OLDEST, None))
            for _ in range(steps):  # the first one finds out where it begins
                await trio.testing.wait_all_tasks_blocked()
                now, SlowEngine.go_on = SlowEngine.go_on, trio.Event()
                now.set()
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("a")
            SlowEngine.go_on.set()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == expected


async def test_a_stalled_client_that_is_taken_in_and_out_is_told_of_one_end_and_one_beginning(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["a", "b"]) as connection:
            await trio.testing.wait_all_tasks_blocked()
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            transport.stall()
            for _ in range(100):
                await connection.leave("a")
                await publish(hub, "a", 1)
                await connection.join("a")
            assert len(connection._outbound) <= 2
            await trio.testing.wait_all_tasks_blocked()
            transport.resume()
            await publish(hub, "a", 1)
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["a@0", "b@0", 1, "a!1", "a@101", 102]


async def test_a_group_whose_end_is_still_to_be_told_is_gone_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_hub() as hub:
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["a", "b"]) as connection:
            await trio.testing.wait_all_tasks_blocked()
            transport.stall()
            await connection.leave("a")
            await trio.testing.wait_all_tasks_blocked()
            assert hub.groups == 1
            assert connection.groups == ["b"]


# Strict clients


async def forever(
    hub: Hub, transport: MemoryTransport, *, task_status: trio.TaskStatus[Connection], strict: bool = True
) -> None:
    async with open_connection(hub, transport, ["a"], strict=strict) as connection:
        task_status.started(connection)
        await trio.sleep_forever()


@pytest.mark.parametrize(("form", "first"), [(RAW, []), (JSON, ["a@0"])])
async def test_a_strict_client_is_closed_instead_of_missing_something(
    form: Format, first: list[str], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(max_lag=3) as hub, open_connection(hub, MemoryTransport(), ["a"]):
        transport = MemoryTransport(form)
        connection = await nursery.start(forever, hub, transport)
        await publish(hub, "a", 1)
        await trio.testing.wait_all_tasks_blocked()
        transport.stall()
        await publish(hub, "a", 9)
        transport.resume()
        await trio.testing.wait_all_tasks_blocked()
        assert told(transport) == [*first, 1]
        assert transport.closed is not None
        assert (transport.closed.code, transport.closed.reason) == (4010, "missed 2 to 7 (slow), come back: a")
        assert connection.ended
        assert (await hub.info("a")).evicted == 1


async def test_a_client_that_is_not_strict_is_told_of_the_gap(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(max_lag=3) as hub:
        async with open_connection(hub, transport := MemoryTransport(), ["a"]) as connection:
            transport.stall()
            await publish(hub, "a", 9)
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == [(1, 6), 7, 8, 9]
            assert not connection.ended


async def test_a_strict_client_that_keeps_up_is_never_closed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(max_lag=3) as hub:
        async with open_connection(hub, transport := MemoryTransport(), ["a"], strict=True) as connection:
            for _ in range(20):
                await publish(hub, "a", 1)
                await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == list(range(1, 21))
            assert not connection.ended


async def test_the_reason_names_the_range_even_of_a_group_with_the_longest_name(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = "g" * 255
    async with running_hub(max_lag=1) as hub:
        transport = MemoryTransport()
        with trio.move_on_after(5):
            async with open_connection(hub, transport, [name], strict=True):
                transport.stall()
                await publish(hub, name, 5)
                transport.resume()
                await trio.sleep_forever()
        assert transport.closed is not None
        assert transport.closed.reason.startswith("missed 1 to 4 (slow), come back: ggg")
        assert len(transport.closed.reason) == 123


class ForgetfulEngine(MemoryEngine):
    """Loses messages 3 and 4 on the way, and its history with them."""

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Any]:
        honest = Inbox(inbox.size)
        async with super().subscribe(group, honest) as position, trio.open_nursery() as nursery:
            nursery.start_soon(self._lose, honest, inbox)
            yield position
            honest.close()
            nursery.cancel_scope.cancel()

    async def _lose(self, honest: Inbox, inbox: Inbox) -> None:
        while True:
            for item in await honest.take():
                if isinstance(item, Message) and item.offset not in (3, 4):
                    await inbox.reserve()
                    inbox.put_nowait(item)


class Socket:
    """An outlet that takes everything at once."""

    ready = True

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.taken.append(data)
        return len(data)


@pytest.mark.parametrize("direct", [False, True])
async def test_what_an_engine_loses_is_a_gap_to_some_and_the_end_to_the_strict(
    direct: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    lenient, strict, socket = MemoryTransport(JSON), MemoryTransport(), Socket()
    if direct:
        strict.outlet = socket  # type: ignore[assignment]
    async with running_hub(ForgetfulEngine, history_size=0) as hub:
        await nursery.start(forever, hub, strict)
        async with open_connection(hub, lenient, ["a"]), trio.open_nursery() as publishers:
            for _ in range(5):
                publishers.start_soon(hub.publish, "a", Draft.of("x"))
                await trio.testing.wait_all_tasks_blocked()
            publishers.cancel_scope.cancel()  # 3 and 4 would wait to be fetched
        assert told(lenient) == ["a@0", 1, 2, (3, 4), 5]
        assert told(strict) == ([] if direct else [1, 2])
        assert socket.taken == ([b"\x81\x01x", b"\x81\x01x"] if direct else [])
        assert strict.closed is not None
        assert strict.closed.reason == "missed 3 to 4 (lost), come back: a"
    gap = lenient.received[3]
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.LOST
