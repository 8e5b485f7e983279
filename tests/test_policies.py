"""Every overflow policy: what the publisher, a fast client and a stalled client see."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from triocast import Connection, Draft, Gap, GapReason, Kind, Message, Policy, Position, Settings
from triocast.connection import open_connection
from triocast.core.log import Bounds, Entry, GroupLog, first_of, last_of
from triocast.core.overflow import conflate
from triocast.engines.memory import MemoryEngine
from triocast.errors import Overloaded
from triocast.hub import Hub
from triocast.testing import MemoryTransport

BIG = 10**9


class Scene:
    """A hub with one group, `g`, a fast client and a stalled one."""

    def __init__(self, nursery: trio.Nursery, **values: object) -> None:
        settings = Settings(**values)  # type: ignore[arg-type]
        self.hub = Hub(settings, MemoryEngine(settings))
        self.fast, self.slow = MemoryTransport(), MemoryTransport()
        self._nursery = nursery

    async def begin(self) -> None:
        await self._nursery.start(self.hub.run)
        for transport in (self.fast, self.slow):
            await self._nursery.start(self._serve, transport)
        self.slow.stall()

    async def _serve(self, transport: MemoryTransport, task_status: trio.TaskStatus[Connection]) -> None:
        async with open_connection(self.hub, transport, ["g"]) as connection:
            task_status.started(connection)
            await trio.sleep_forever()

    async def publish(self, count: int, *, key: str | None = None) -> None:
        for number in range(count):
            await self.hub.publish("g", Draft(Kind.TEXT, str(number).encode(), key))
            await trio.testing.wait_all_tasks_blocked()

    async def resume(self) -> list[int | tuple[int, int, str]]:
        self.slow.resume()
        await trio.testing.wait_all_tasks_blocked()
        return told(self.slow.received)


def told(entries: list[Entry | str | bytes]) -> list[int | tuple[int, int, str]]:
    """Offsets of messages; first, last and reason of gaps."""
    found: list[int | tuple[int, int, str]] = []
    for entry in entries:
        assert isinstance(entry, Message | Gap)
        found.append(entry.offset if isinstance(entry, Message) else (entry.first, entry.last, entry.reason.value))
    return found


@pytest.mark.parametrize("policy", [each for each in Policy if each is not Policy.BLOCK])
async def test_a_stalled_client_costs_the_fast_one_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, policy: Policy
) -> None:
    scene = Scene(nursery, policy=policy, max_lag=10)
    await scene.begin()
    await scene.publish(100)
    assert told(scene.fast.received) == list(range(1, 101))
    info = await scene.hub.info("g")
    assert info.policy == policy.value


async def test_drop_oldest_goes_on_with_the_oldest_allowed(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.DROP_OLDEST, max_lag=10)
    await scene.begin()
    await scene.publish(25)
    assert await scene.resume() == [(1, 15, "slow"), *range(16, 26)]
    assert (await scene.hub.info("g")).dropped == 15


async def test_drop_newest_keeps_what_was_coming_and_names_what_came_after_in_one_gap(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.DROP_NEWEST, max_lag=10)
    await scene.begin()
    await scene.publish(25)
    assert (await scene.hub.info("g")).lag == 25
    assert await scene.resume() == [*range(1, 11), (11, 25, "slow")]
    await scene.publish(2)
    assert told(scene.slow.received)[-2:] == [26, 27]
    info = await scene.hub.info("g")
    assert (info.dropped, info.behind) == (15, 0)
    assert scene.hub._pins.used == 0


async def test_what_is_frozen_is_bounded_for_all_clients_together(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.DROP_NEWEST, max_lag=10, pinned_bytes=100)
    await scene.begin()
    await scene.publish(11)
    assert (await scene.hub.info("g")).subscribers == 1
    scene.slow.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.slow.closed is not None
    assert scene.slow.closed.code == 1013
    assert scene.hub._pins.used == 0


async def test_a_frozen_client_that_leaves_gives_its_memory_back(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.DROP_NEWEST, max_lag=10)
    await scene.begin()
    await scene.publish(25)
    assert scene.hub._pins.used > 0
    scene.slow.vanish()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.hub._pins.used == 0
    assert (await scene.hub.info("g")).subscribers == 1


async def test_latest_gives_a_laggard_the_newest(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.LATEST, max_lag=10)
    await scene.begin()
    await scene.publish(25)
    assert await scene.resume() == [(1, 15, "slow"), (16, 24, "superseded"), 25]
    await scene.publish(1)
    assert told(scene.slow.received)[-1] == 26


async def test_latest_gives_a_laggard_the_newest_of_each_key_in_offset_order(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.LATEST, max_lag=10)
    await scene.begin()
    await scene.publish(8)
    for key in ("eur", "usd", "eur", "gbp", "usd", "usd"):
        await scene.publish(1, key=key)
    # 1..14 published, the log holds 5..14: 8 is the newest without a key, 11 eur, 12 gbp, 14 usd.
    assert await scene.resume() == [
        (1, 4, "slow"),
        (5, 7, "superseded"),
        8,
        (9, 10, "superseded"),
        11,
        12,
        (13, 13, "superseded"),
        14,
    ]


async def test_latest_lets_whoever_lags_less_read_everything(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.LATEST, max_lag=10)
    await scene.begin()
    await scene.publish(10, key="eur")
    assert await scene.resume() == list(range(1, 11))


async def test_disconnect_ends_a_laggard_although_it_cannot_be_written_to(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, policy=Policy.DISCONNECT, max_lag=10)
    await scene.begin()
    await scene.publish(11)
    info = await scene.hub.info("g")
    assert (info.subscribers, info.evicted) == (1, 1)
    scene.slow.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.slow.closed is not None
    assert scene.slow.closed.code == 1013


async def test_block_refuses_a_publish_after_its_time_and_nothing_was_published(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, policy=Policy.BLOCK, max_lag=10, block_timeout=5.0)
    await scene.begin()
    await scene.publish(10)
    began = trio.current_time()
    with pytest.raises(Overloaded, match=r"10 messages behind.*block_timeout") as caught:
        await scene.hub.publish("g", Draft.of("one too many"))
    assert trio.current_time() - began == pytest.approx(5.0)
    assert (caught.value.status, caught.value.temporary) == (503, True)
    assert (await scene.hub.info("g")).offset == 10
    assert await scene.resume() == list(range(1, 11))
    await scene.publish(1)
    assert told(scene.slow.received)[-1] == 11


async def test_block_serves_those_who_wait_in_their_order_once_the_laggard_has_caught_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, policy=Policy.BLOCK, max_lag=10, block_timeout=50.0)
    await scene.begin()
    await scene.publish(10)
    offsets: dict[str, int] = {}

    async def publish(name: str) -> None:
        offsets[name] = (await scene.hub.publish("g", Draft.of(name))).offset

    for name in ("first", "second", "third"):
        nursery.start_soon(publish, name)
        await trio.testing.wait_all_tasks_blocked()
    assert offsets == {}
    assert await scene.resume() == list(range(1, 14))
    assert offsets == {"first": 11, "second": 12, "third": 13}


async def test_block_lets_a_publisher_go_when_the_laggard_leaves(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, policy=Policy.BLOCK, max_lag=10, block_timeout=50.0)
    await scene.begin()
    await scene.publish(10)
    with trio.fail_after(1):
        async with trio.open_nursery() as publishers:
            publishers.start_soon(scene.hub.publish, "g", Draft.of("waits"))
            await trio.testing.wait_all_tasks_blocked()
            scene.slow.vanish()
    assert (await scene.hub.info("g")).offset == 11


async def test_a_blocked_publish_that_is_cancelled_was_not_published(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene(nursery, policy=Policy.BLOCK, max_lag=10, block_timeout=50.0)
    await scene.begin()
    await scene.publish(10)
    with trio.move_on_after(1):
        await scene.hub.publish("g", Draft.of("cancelled"))
    await scene.resume()
    await scene.publish(1)
    assert (await scene.hub.info("g")).offset == 11
    assert told(scene.slow.received) == list(range(1, 12))


keys = st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=60)


@given(keys, st.integers(1, 30), st.integers(0, 60), st.integers(1, 400))
def test_conflating_gives_the_newest_of_each_key_held_and_names_everything_else(
    published: list[str | None], held: int, cursor: int, budget: int
) -> None:
    log = GroupLog(Position("e", 0), Bounds(held, BIG), keyed=True)
    for offset, key in enumerate(published, start=1):
        log.append(Message("g", "e", offset, Kind.TEXT, b"x" * offset, key), 0.0)
    cursor = min(cursor, log.top)
    entries: list[Entry] = []
    while (position := last_of(entries[-1]) if entries else cursor) < log.top:
        more = conflate("g", position, log, budget)
        assert more
        weights = [entry.weight for entry in more if isinstance(entry, Message)]
        assert sum(weights) <= budget or len(weights) == 1
        entries += more
    expected = {key: offset for offset, key in enumerate(published, start=1) if offset >= log.bottom}
    got = [entry.offset for entry in entries if isinstance(entry, Message)]
    assert got == sorted(offset for offset in expected.values() if offset > cursor)
    follows = cursor
    for entry in entries:
        assert first_of(entry) == follows + 1
        follows = last_of(entry)
    reasons = {entry.reason for entry in entries if isinstance(entry, Gap) and entry.first >= log.bottom}
    assert reasons <= {GapReason.SUPERSEDED}
