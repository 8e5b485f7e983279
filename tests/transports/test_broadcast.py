"""The broadcaster's own writes: to whom, what it makes of what the socket says, and that the cursor moves with them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import trio
import trio.testing

from triocast import Settings
from triocast.core.message import Draft
from triocast.core.wire import RAW, Format
from triocast.core.wire.raw import payload
from triocast.engines.memory import MemoryEngine
from triocast.errors import Close
from triocast.hub import Hub
from triocast.subscription import Subscription

OTHER = Format("raw, in a lane of its own", payload)


class Sink:
    """A follower with an outlet that takes what its test says; all of it, unless told otherwise."""

    def __init__(self, form: Format = RAW, answer: Callable[[bytes], int] = len) -> None:
        self.id = secrets.token_hex(4)
        self.member = None
        self.format = form
        self.outlet = self
        self.ready = True
        self.answer = answer
        self.written: list[bytes] = []
        self.kept: list[memoryview] = []
        self.full = self.lost = False
        self.woken = 0
        self.ended_with: Close | None = None
        self.subscription: Subscription

    def send(self, data: bytes) -> int:
        taken = self.answer(data)
        self.written.append(data)
        return taken

    def keep(self, rest: memoryview) -> None:
        self.kept.append(rest)

    def fill(self) -> None:
        self.full = True

    def lose(self) -> None:
        self.lost = True

    def wake(self, subscription: Subscription) -> None:
        self.woken += 1

    def end(self, close: Close) -> None:
        self.ended_with = close


async def start(nursery: trio.Nursery) -> Hub:
    settings = replace(Settings(), history_size=0)
    hub = Hub(settings, MemoryEngine(settings))
    await nursery.start(hub.run)
    return hub


async def join(hub: Hub, *sinks: Sink) -> None:
    for sink in sinks:
        sink.subscription = await hub.join("a", sink)


async def publish(hub: Hub, text: str) -> None:
    await hub.publish("a", Draft.of(text))
    await trio.testing.wait_all_tasks_blocked()


async def test_all_who_keep_up_are_written_the_same_bytes_and_nobody_is_woken(nursery: trio.Nursery) -> None:
    hub, sinks = await start(nursery), [Sink() for _ in range(200)]
    await join(hub, *sinks)
    await publish(hub, "one")
    for sink in sinks:
        (frame,) = sink.written
        assert frame == b"\x81\x03one"
        assert frame is sinks[0].written[0]
        assert (sink.subscription.cursor, sink.woken) == (1, 0)


async def test_who_is_not_ready_is_written_nothing_and_woken_once(nursery: trio.Nursery) -> None:
    hub, sink = await start(nursery), Sink()
    await join(hub, sink)
    sink.ready = False
    for text in ("one", "two"):
        await publish(hub, text)
    assert (sink.written, sink.woken, sink.subscription.cursor) == ([], 1, 0)


async def test_who_takes_nothing_has_been_given_nothing_and_is_woken(nursery: trio.Nursery) -> None:
    def full(data: bytes) -> int:
        raise BlockingIOError

    hub, sink = await start(nursery), Sink(answer=full)
    await join(hub, sink)
    await publish(hub, "one")
    assert (sink.full, sink.kept, sink.woken, sink.subscription.cursor) == (True, [], 1, 0)


async def test_who_takes_a_part_is_given_the_rest_as_a_view_before_anything_else(nursery: trio.Nursery) -> None:
    hub, sink = await start(nursery), Sink(answer=lambda data: 4)
    await join(hub, sink)
    await publish(hub, "one")
    (rest,) = sink.kept
    assert bytes(rest) == b"e"
    assert rest.obj is sink.written[0]
    await publish(hub, "two")
    assert (len(sink.written), sink.woken, sink.subscription.cursor) == (1, 1, 1)


async def test_who_is_lost_is_closed_and_woken_and_the_others_are_served(nursery: trio.Nursery) -> None:
    def broken(data: bytes) -> int:
        raise ConnectionResetError

    hub, sink, other = await start(nursery), Sink(answer=broken), Sink()
    await join(hub, sink, other)
    await publish(hub, "one")
    assert (sink.lost, sink.woken, sink.subscription.cursor) == (True, 1, 0)
    assert (other.subscription.cursor, len(other.written)) == (1, 1)


async def test_who_comes_in_the_middle_of_a_round_is_not_given_what_it_came_after(nursery: trio.Nursery) -> None:
    hub, late = await start(nursery), Sink(OTHER)

    def come(data: bytes) -> int:
        if not hasattr(late, "subscription"):
            late.subscription = early.subscription.group.join(late)
        return len(data)

    early, there = Sink(answer=come), Sink(OTHER)
    await join(hub, early, there)
    await publish(hub, "one")
    assert late.subscription.cursor == 1
    assert late.written == []
    await publish(hub, "two")
    assert late.written == [b"\x81\x03two"]
    assert there.written == [b"\x81\x03one", b"\x81\x03two"]


async def test_who_leaves_in_the_middle_of_a_round_is_written_nothing_more(nursery: trio.Nursery) -> None:
    hub, leaver = await start(nursery), Sink()

    def leave(data: bytes) -> int:
        hub.leave(leaver.subscription)
        return len(data)

    first = Sink(answer=leave)
    await join(hub, first, leaver)
    await publish(hub, "one")
    assert (leaver.written, leaver.woken) == ([], 0)
    assert first.subscription.cursor == 1
