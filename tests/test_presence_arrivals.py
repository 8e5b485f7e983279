"""Very many who join a group at once, and how those who want to know are told of them."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import trio
import trio.testing

from triocast import Settings
from triocast.connection import open_connection
from triocast.core.presence import Member
from triocast.core.presence_log import EVENT_WEIGHT, weight_of
from triocast.core.wire import JSON, RAW, Format, Presence
from triocast.engines.memory import MemoryEngine
from triocast.errors import Close
from triocast.hooks import Happening, Hook
from triocast.hub import Hub
from triocast.lanes import GENTLE_ROUND, SMALL_SLICE, Lanes
from triocast.subscription import Stream
from triocast.testing import MemoryTransport

JOINING = 10_000
WATCHING = 20


class Newcomer:
    """A member of a group that is never written to."""

    format: Format = RAW
    outlet = None

    def __init__(self, number: int) -> None:
        self.id = f"newcomer-{number:07}"
        self.member = Member(self.id)

    def wake(self, stream: Stream) -> None:
        """There is something; it does not look."""

    def end(self, close: Close) -> None:
        """It has no connection that could end."""


def presence_of(transport: MemoryTransport) -> list[Presence]:
    return [each for each in transport.received if isinstance(each, Presence)]


async def test_ten_thousand_that_join_at_once_are_told_once_to_everybody_in_a_few_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    settings = Settings()
    hub = Hub(settings, MemoryEngine(settings))
    happened: Counter[Hook] = Counter()

    async def count(happening: Happening) -> None:
        happened[happening.hook] += 1

    hub.hooks.add(Hook.LEAVE, count)
    hub.hooks.add(Hook.VACATED, count)
    transports = [MemoryTransport(JSON) for _ in range(WATCHING)]
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with AsyncExitStack() as stack:
            for transport in transports:
                await stack.enter_async_context(open_connection(hub, transport, ["g"], presence=True))
            await trio.sleep(2)  # they are told of each other
            known = [len(presence_of(transport)) for transport in transports]
            newcomers = [await hub.join("g", Newcomer(number)) for number in range(JOINING)]
            await trio.sleep(2)
            for transport, before in zip(transports, known, strict=True):
                events = presence_of(transport)[before:]
                told = [member.client for event in events for member in event.joined]
                assert sorted(told) == [f"newcomer-{number:07}" for number in range(JOINING)]
                assert len(events) == -(-sum(map(weight_of, events)) // EVENT_WEIGHT)  # as few as hold them
                assert not any(event.left or event.moved or event.reset for event in events)
            for subscription in newcomers:
                hub.leave(subscription)
                await trio.lowlevel.checkpoint()
            await trio.sleep(2)
            for transport in transports:
                left = Counter(client for event in presence_of(transport) for client, _ in event.left)
                assert left.total() == len(left) == JOINING
        await trio.testing.wait_all_tasks_blocked()
        hub.stop()
    assert not sum(hub.hooks.dropped.values())
    assert happened == {Hook.LEAVE: JOINING + WATCHING, Hook.VACATED: 1}


class Slow:
    """A member whose socket takes what it is given, and its time for that."""

    active = ready = True
    cursor = 0

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self.follower = Newcomer(0)
        self.follower.format = JSON
        self.outlet = self
        self._clock = clock

    def send(self, data: bytes) -> int:
        self._clock.jump(GENTLE_ROUND / SMALL_SLICE)
        return len(data)


async def test_a_gentle_round_gives_others_their_turn_after_half_a_millisecond(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lanes: Lanes[Slow] = Lanes(gentle=True)  # type: ignore[type-var]
    for _ in range(20 * SMALL_SLICE):
        lanes.park(Slow(autojump_clock))
    seen: list[float] = []

    async def look() -> None:
        while True:
            seen.append(trio.current_time())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        assert await lanes.serve(0, 1, [Presence("g", reset=True)]) == 20 * SMALL_SLICE
        nursery.cancel_scope.cancel()
    assert len(set(seen)) >= 8  # 20, as far as the scheduler does not have it look twice in one turn
