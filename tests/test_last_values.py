"""Groups whose new clients begin with the last values: which those are, in what order, and what is said around them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.unkind import UnkindEngine
from tests.test_told import running_hub, told
from tests.web.test_formats import member, served
from triocast import Draft, Gap, GapReason, GroupSettings, Message, Position, Settings
from triocast.connection import open_connection
from triocast.core.recovery import Join, Last, Wish
from triocast.core.wire import JSON, RAW, Format
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.recovery import PAGE, Recovery, plan_recovery
from triocast.testing import Client, MemoryTransport


async def publish(hub: Hub, *keys: str | None) -> None:
    for key in keys:
        await hub.publish("g", Draft.of("x", key=key))


async def view(hub: Hub, wish: Wish | None = None, form: Format = JSON, *, strict: bool = False) -> MemoryTransport:
    """Return the transport of a client that came, was given all there is, and went."""
    transport = MemoryTransport(form)
    async with open_connection(hub, transport, ["g"], {"g": wish}, strict=strict) as connection:
        await trio.testing.wait_all_tasks_blocked()
        assert not connection.ended
    return transport


def reasons(transport: MemoryTransport) -> list[GapReason]:
    return [each.reason for each in transport.received if isinstance(each, Gap)]


async def test_a_new_client_is_given_the_newest_of_each_key_and_then_what_is_live() -> None:
    async with running_hub(join=Join.LAST, history_size=0) as hub:
        await publish(hub, "a", "b", "b", "c", "c", "b")
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g"]):
            await trio.testing.wait_all_tasks_blocked()
            await publish(hub, "a")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", 1, (2, 4), 5, 6, 7]
            assert reasons(transport) == [GapReason.SUPERSEDED]
            assert (await hub.info("g")).dropped == 0  # nobody has missed what was superseded before it came


async def test_without_keys_that_is_the_newest_message() -> None:
    async with running_hub(join=Join.LAST) as hub:
        await publish(hub, None, None, None)
        transport = await view(hub, form=RAW)
        assert told(transport) == [3]
        assert transport.positions == [Position((await hub.info("g")).epoch, 2)]


async def test_a_group_nobody_has_published_to_begins_live() -> None:
    async with running_hub(join=Join.LAST) as hub:
        transport = MemoryTransport(RAW)
        async with open_connection(hub, transport, ["g"]):
            await publish(hub, "a")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == [1]
            assert transport.positions == [Position((await hub.info("g")).epoch, 0)]


async def test_other_groups_begin_live_and_a_wish_wins() -> None:
    namespaces = {"state": GroupSettings(join=Join.LAST)}
    async with running_hub(namespaces=namespaces) as hub:
        for _ in range(3):
            await hub.publish("g", Draft.of("x"))
            await hub.publish("state:g", Draft.of("x"))
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, ["g", "state:g"]):
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@3", "state:g@2", 3] or told(transport) == ["state:g@2", 3, "g@3"]
        asked = MemoryTransport(JSON)
        async with open_connection(hub, asked, ["state:g"], {"state:g": Last(2)}):
            await trio.testing.wait_all_tasks_blocked()
            assert told(asked) == ["state:g@1", 2, 3]


async def test_who_joins_in_the_middle_of_its_connection_begins_with_them_too() -> None:
    async with running_hub(join=Join.LAST) as hub:
        await publish(hub, "a", "b")
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport) as connection:
            await connection.join("g")
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", 1, 2]


async def test_one_key_more_than_are_kept_and_the_most_silent_is_forgotten() -> None:
    async with running_hub(join=Join.LAST, max_keys=2) as hub:
        await publish(hub, "a", "b", "a", "c")
        assert told(await view(hub)) == ["g@2", 3, 4]


async def test_they_outlive_history_and_go_with_the_position(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub(join=Join.LAST, history_ttl=5.0, position_ttl=1000.0) as hub:
        await publish(hub, "a", "b")
        await trio.sleep(900)
        assert told(await view(hub)) == ["g@0", 1, 2]
        await trio.sleep(1002)
        assert repr(hub.engine) == "<MemoryEngine 0 groups, 0 active, history 0 bytes>"
        assert told(await view(hub)) == ["g@0"]


async def test_when_memory_is_short_histories_go_first_and_then_the_values_that_changed_least() -> None:
    weight = Draft.of(bytes(1000), key="a").weight
    namespaces = {"state": GroupSettings(join=Join.LAST, history_size=0), "chat": GroupSettings()}
    engine = MemoryEngine(Settings(history_memory=3 * weight, namespaces=namespaces))
    for group in ("state:1", "chat:1", "chat:2", "state:2"):
        await engine.publish(group, Draft.of(bytes(1000), key="a"))

    async def kept() -> list[bool]:
        values = [(await engine.last_values(group, 0, 10)).messages for group in ("state:1", "state:2", "state:3")]
        return [bool(each) for each in values]

    assert await kept() == [True, True, False]
    assert (await engine.read("chat:1", 0, 10)).messages == ()
    await engine.publish("state:3", Draft.of(bytes(1000), key="a"))
    assert await kept() == [False, True, True]
    assert len((await engine.read("chat:2", 0, 10)).messages) == 1  # the last one with history keeps it
    assert f"history {3 * weight} bytes" in repr(engine)


# Coming back


async def test_what_history_no_longer_has_is_made_good_by_the_last_values() -> None:
    async with running_hub(join=Join.LAST, history_size=2) as hub:
        await publish(hub, "a", "b", "b", "c", "d", "d", "e", "e")
        epoch = (await hub.info("g")).epoch
        transport = await view(hub, Position(epoch, 1))
        assert told(transport) == ["g@2", (2, 2), 3, 4, (5, 5), 6, 7, 8]
        assert reasons(transport) == [GapReason.LOST, GapReason.LOST]
        assert told(await view(hub, Position(epoch, 3))) == ["g@3", 4, (5, 5), 6, 7, 8]
        assert told(await view(hub, Position(epoch, 6))) == ["g@6", 7, 8]


async def test_after_a_new_epoch_too_and_that_it_is_new_is_said_first_and_once() -> None:
    async with running_hub(join=Join.LAST, history_size=1) as hub:
        await publish(hub, "a", "b", "b", "c")
        transport = await view(hub, Position("old", 9))
        assert told(transport) == ["g@0", (1, 0), 1, (2, 2), 3, 4]
        assert reasons(transport) == [GapReason.EPOCH, GapReason.LOST]
        await publish(hub, "a")
        assert told(await view(hub, Position("old", 9))) == ["g@2", (1, 2), 3, 4, 5]


async def test_a_strict_client_may_begin_with_them_and_is_still_closed_for_what_it_has_missed() -> None:
    async with running_hub(join=Join.LAST, history_size=1) as hub:
        await publish(hub, "a", "b", "b", "c")
        assert told(await view(hub, strict=True)) == ["g@0", 1, (2, 2), 3, 4]
        assert told(await view(hub, form=RAW, strict=True)) == [1, (2, 2), 3, 4]
        transport = MemoryTransport(JSON)
        wish = Position((await hub.info("g")).epoch, 1)
        async with open_connection(hub, transport, ["g"], {"g": wish}, strict=True):
            await trio.sleep_forever()
        assert transport.closed is not None
        assert transport.closed.code == 4010


async def test_who_counts_is_told_no_position_where_it_would_count_wrong() -> None:
    async with running_hub(join=Join.LAST, history_size=1) as hub:
        await publish(hub, "a", "b", "b")
        transport = await view(hub, form=RAW)
        assert (told(transport), transport.positions) == ([1, (2, 2), 3], [])


async def test_a_value_superseded_before_it_was_taken_is_named_and_its_successor_comes_live() -> None:
    async with running_hub(join=Join.LAST) as hub:
        await publish(hub, "a", "b")
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["g"]):
            await publish(hub, "a")
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", (1, 1), 2, 3]


async def test_many_values_come_in_pages_and_writes_of_their_own() -> None:
    async with running_hub(join=Join.LAST, history_size=0, max_keys=10_000) as hub:
        await publish(hub, *map(str, range(3 * PAGE)))
        recovery = await planned(hub)
        sizes = []
        while not recovery.done:
            sizes.append(len(await recovery.take(100 * Draft.of("x", key="111").weight)))
        assert sum(sizes) == 3 * PAGE
        assert max(sizes) <= 101
        assert await planned_offsets(hub) == [*range(1, 3 * PAGE + 1)]


async def planned(hub: Hub) -> Recovery:
    at = await hub.engine.position("g")
    wish = hub.beginning_of("g")
    assert wish is not None
    return await plan_recovery(hub.engine, "g", wish, at, 100, valued=True)


async def planned_offsets(hub: Hub) -> list[int]:
    recovery = await planned(hub)
    taken: list[Any] = []
    while not recovery.done:
        taken += await recovery.take(1_000_000)
    return [each.offset for each in taken]


async def test_what_goes_from_history_before_it_is_read_is_made_good_likewise() -> None:
    async with running_hub(join=Join.LAST, history_size=3) as hub:
        await publish(hub, "a", "b", "b")
        transport = MemoryTransport(JSON)
        transport.stall()
        async with open_connection(hub, transport, ["g"], {"g": Position((await hub.info("g")).epoch, 0)}):
            await publish(hub, "b", "c")
            transport.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert told(transport) == ["g@0", 1, (2, 2), 3, 4, 5]


# Any sequence of events, against what was published

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 4)),
        st.tuples(st.just("come"), st.integers(0, 30)),
        st.tuples(st.just("new"), st.just(0)),
        st.tuples(st.just("stalled"), st.integers(0, 30)),
        st.tuples(st.just("resume"), st.just(0)),
    ),
    max_size=40,
)


class Watch:
    """One group with keys "0" to "4", and everybody who came to it."""

    def __init__(self, hub: Hub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.nursery = nursery
        self.keys: list[str] = []  # of what was published, in order
        self.visits: list[tuple[int | None, int, MemoryTransport]] = []  # since, the top then, what it was told

    async def happen(self, kind: str, number: int) -> None:
        match kind:
            case "publish":
                self.keys.append(str(number))
                await publish(self.hub, str(number))
            case "resume":
                for _, _, transport in self.visits:
                    transport.resume()
            case _:
                await self.come(None if kind == "new" else min(number, len(self.keys)), stalled=kind == "stalled")
        await trio.testing.wait_all_tasks_blocked()

    async def come(self, since: int | None, *, stalled: bool) -> None:
        transport = MemoryTransport(JSON)
        if stalled:
            transport.stall()
        epoch = (await self.hub.engine.position("g")).epoch
        if not epoch:
            since = None
        self.visits.append((since, len(self.keys), transport))
        self.nursery.start_soon(self._stay, None if since is None else Position(epoch, since), transport)
        await trio.testing.wait_all_tasks_blocked()

    async def _stay(self, wish: Position | None, transport: MemoryTransport) -> None:
        async with open_connection(self.hub, transport, ["g"], {"g": wish}):
            await trio.sleep_forever()

    async def check(self) -> None:
        await self.happen("resume", 0)
        newest = {key: offset for offset, key in enumerate(self.keys, 1)}
        for since, _, transport in self.visits:
            (joined, *items), offsets = transport.received, []
            at = joined.offset if since is None else since  # type: ignore[union-attr]
            for item in items:
                assert isinstance(item, Message | Gap)
                first, last = (item.first, item.last) if isinstance(item, Gap) else (item.offset, item.offset)
                assert first == at + 1
                at = last
                offsets += [item.offset] if isinstance(item, Message) else []
            assert at == len(self.keys)
            wanted = {offset for offset in newest.values() if since is None or offset > since}
            assert wanted <= set(offsets)


@pytest.mark.parametrize("kind", ["memory", "unkind"])
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_everybody_ends_with_the_newest_of_each_key(kind: str, steps: list[tuple[str, int]]) -> None:
    def make(settings: Settings) -> MemoryEngine:
        return MemoryEngine(settings) if kind == "memory" else UnkindEngine(settings, 1)

    async def main() -> None:
        async with (
            running_hub(make, join=Join.LAST, history_size=3, max_lag=100) as hub,
            trio.open_nursery() as nursery,
        ):
            watch = Watch(hub, nursery)
            for step in steps:
                await watch.happen(*step)
            await trio.sleep(10)  # what an unkind engine delivers late
            await watch.check()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# Over HTTP and WebSocket


async def test_on_ws_the_header_names_no_position_where_keys_are_superseded() -> None:
    namespaces = {"state": GroupSettings(join=Join.LAST)}
    async with served(namespaces=namespaces) as world:
        for key, text in (("a", "a1"), ("b", "b1"), ("b", "b2")):
            await world.http.post(f"/publish/state:g?key={key}", data=text)
        client = await member(world, "/ws/state:g")
        assert [await client.receive(), await client.receive()] == ["a1", "b2"]
        assert b"triocast-position" not in dict(client.accepted_headers)
        await world.http.post("/publish/state:one", data="x")
        single: Client = await member(world, "/ws/state:one")
        assert await single.receive() == "x"
        assert dict(single.accepted_headers)[b"triocast-position"].endswith(b":0")
