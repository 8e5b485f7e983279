"""The suite that every engine passes: what members see and publishers are told, whatever the delivery.

Engines in memory run on a virtual clock, those on a server on the real one; no test waits for time to pass on that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
import trio
import trio.testing

from tests.engines.unkind import UnkindEngine
from tests.redis_servers import Cluster, Server
from triocast import (
    Draft,
    Gap,
    GapReason,
    GroupSettings,
    IdempotencyConflict,
    Message,
    Position,
    Receipt,
    Settings,
    UnexpectedPosition,
)
from triocast.connection import open_connection
from triocast.core.identity import Identity
from triocast.core.presence import Change, Departed, Entered, Member, Moved, Reason
from triocast.core.recovery import OLDEST
from triocast.core.wire import Delivered
from triocast.engines import Engine, Nobody, Page
from triocast.engines.memory import MemoryEngine
from triocast.engines.redis.engine import RedisEngine
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.testing import MemoryTransport

MakeEngine = Callable[[Settings], Engine]

IN_MEMORY: dict[str, MakeEngine] = {
    "memory": MemoryEngine,
    **{f"unkind-{seed}": lambda settings, seed=seed: UnkindEngine(settings, seed) for seed in range(5)},
}
ON_SERVERS = ("valkey", "valkey_cluster", "debian_redis")


@pytest.fixture(params=[*IN_MEMORY, *ON_SERVERS])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    if request.param in IN_MEMORY:
        return IN_MEMORY[request.param]
    server = request.getfixturevalue(request.param)
    return lambda settings: RedisEngine(settings, url_of(server))


@pytest.fixture(params=list(IN_MEMORY))
def make_timed_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Engines whose time is the test's own; a server's passes by itself."""
    return IN_MEMORY[request.param]


@pytest.fixture
def clock(make_engine: MakeEngine) -> trio.testing.MockClock | None:
    if make_engine in IN_MEMORY.values():
        return trio.testing.MockClock(autojump_threshold=0)
    return None


def url_of(server: Server | Cluster) -> str:
    if isinstance(server, Server):
        return f"redis://127.0.0.1:{server.port}"
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in server.nodes)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; for what another task or a server is about to do."""
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.001)


async def running(engine: Engine, nursery: trio.Nursery) -> Engine:
    await nursery.start(engine.run)
    return engine


def seen(transport: MemoryTransport) -> list[int | tuple[int, int]]:
    """Offsets of messages, and first and last of gaps, in the order the client got them."""
    told: list[int | tuple[int, int]] = []
    for entry in transport.received:
        assert isinstance(entry, Message | Gap)
        told.append(entry.offset if isinstance(entry, Message) else (entry.first, entry.last))
    return told


def covered(transport: MemoryTransport) -> list[int]:
    """Every offset that was delivered or named by a gap."""
    spans = (each if isinstance(each, tuple) else (each, each) for each in seen(transport))
    return [offset for first, last in spans for offset in range(first, last + 1)]


async def member(hub: Hub, group: str, transport: MemoryTransport, task_status: trio.TaskStatus[None]) -> None:
    async with open_connection(hub, transport) as connection:
        await connection.join(group)
        task_status.started()
        await trio.sleep_forever()


async def test_members_get_every_offset_once_and_in_order(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings(history_size=1000)
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    clients = [MemoryTransport() for _ in range(3)]
    for client in clients:
        await nursery.start(member, hub, "g", client)
    async with trio.open_nursery() as publishers:
        for publisher in range(4):
            for count in range(25):
                publishers.start_soon(hub.publish, "g", Draft.of(f"{publisher}:{count}"))
    for client in clients:
        await eventually(lambda client=client: len(client.received) >= 100)  # type: ignore[misc]
        assert seen(client) == list(range(1, 101))
    assert clients[0].received == clients[1].received == clients[2].received


async def test_what_history_lost_is_named_by_a_gap_in_its_place(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings(history_size=0)
    engine = make_engine(settings)
    hub = Hub(settings, engine)
    await nursery.start(hub.run)
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    for count in range(60):
        await hub.publish("g", Draft.of(count))
    await eventually(lambda: len(covered(client)) >= 60)
    assert covered(client) == list(range(1, 61))
    gaps = [entry for entry in client.received if isinstance(entry, Gap)]
    assert all(gap.reason is GapReason.LOST for gap in gaps)
    assert bool(gaps) == (engine.name == "unkind")


async def test_receipts_tell_position_and_audience(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    first = await hub.publish("g", Draft.of("before anyone came"))
    assert (first.offset, first.subscribers, first.behind) == (1, 0, 0)
    await nursery.start(member, hub, "g", MemoryTransport())
    await nursery.start(member, hub, "g", MemoryTransport())
    second = await hub.publish("g", Draft.of("to two"))
    if second.approximate:  # counts of all processes, which come later
        assert (second.epoch, second.offset) == (first.epoch, 2)
    else:
        assert second == Receipt("g", first.epoch, 2, 2, 0)


async def test_a_newcomer_gets_what_comes_after_it_joined(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    for count in range(5):
        await hub.publish("g", Draft.of(count))
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    await hub.publish("g", Draft.of("new"))
    await eventually(lambda: client.received)
    assert seen(client) == [6]


async def test_groups_do_not_mix(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    clients = {name: MemoryTransport() for name in "abc"}
    for name, client in clients.items():
        await nursery.start(member, hub, name, client)
    order = list("abc" * 20)
    Random(1).shuffle(order)
    for name in order:
        await hub.publish(name, Draft.of(name))
    for name, client in clients.items():
        await eventually(lambda client=client: len(client.received) >= 20)  # type: ignore[misc]
        assert [entry.data.decode() for entry in client.received if isinstance(entry, Message)] == [name] * 20


async def test_a_publish_cancelled_while_the_inbox_is_full_was_not_published(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings()), nursery)
    inbox = Inbox(2)
    published = 0

    async def publish() -> None:
        nonlocal published
        while True:  # however many places an engine has on the way
            await engine.publish("g", Draft.of(published))
            published += 1

    async with engine.subscribe("g", inbox):
        async with trio.open_nursery() as publishing:
            publishing.start_soon(publish)
            if clock is None:
                await eventually(lambda: inbox._places.statistics().tasks_waiting)
            else:
                await trio.sleep(5)
            publishing.cancel_scope.cancel()
        assert (await engine.position("g")).offset == published
        inbox.close()


async def test_history_is_read_oldest_first_after_an_offset(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings(history_size=10)), nursery)
    positions = [(await engine.publish("g", Draft.of(count))).position for count in range(15)]
    assert [position.offset for position in positions] == list(range(1, 16))
    page = await engine.read("g", after=0, limit=4)
    assert page.position == positions[-1]
    assert [message.offset for message in page.messages] == [6, 7, 8, 9]
    rest = await engine.read("g", after=13, limit=100)
    assert [message.position for message in rest.messages] == positions[-2:]
    assert [message.data for message in rest.messages] == [b"13", b"14"]


async def test_history_is_read_back_newest_first_before_an_offset(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings(history_size=10)), nursery)
    positions = [(await engine.publish("g", Draft.of(count))).position for count in range(15)]
    page = await engine.read_back("g", before=None, limit=4)
    assert page.position == positions[-1]
    assert [message.position for message in page.messages] == positions[:-5:-1]
    assert [message.data for message in page.messages] == [b"14", b"13", b"12", b"11"]
    for before in (16, 1000):
        same = await engine.read_back("g", before=before, limit=4)
        assert [message.position for message in same.messages] == positions[:-5:-1]
    rest = await engine.read_back("g", before=9, limit=100)
    assert (rest.position, [message.offset for message in rest.messages]) == (positions[-1], [8, 7, 6])
    assert (await engine.read_back("g", before=6, limit=100)).messages == ()


async def test_an_unknown_group_has_no_position_and_looking_at_it_makes_none(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = await running(make_engine(Settings()), nursery)
    for _ in range(2):
        assert await engine.position("nobody") == Position("", 0)
        assert await engine.read("nobody", 0, 10) == Page(Position("", 0), ())
        assert await engine.read_back("nobody", None, 10) == Page(Position("", 0), ())


async def test_a_group_keeps_history_and_position_for_their_times_without_members_and_no_longer(
    make_timed_engine: MakeEngine, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(history_ttl=60.0, position_ttl=1000.0)
    hub = Hub(settings, make_timed_engine(settings))
    await nursery.start(hub.run)
    async with trio.open_nursery() as stay:
        await stay.start(member, hub, "g", MemoryTransport())
        await trio.sleep(5000)  # as long as there are members nothing is forgotten but messages
        receipt = await hub.publish("g", Draft.of("kept"))
        stay.cancel_scope.cancel()
    published = Position(receipt.epoch, receipt.offset)
    assert hub.groups == 0
    left = trio.current_time()
    await trio.sleep(55)  # an engine may have taken some seconds to deliver it
    for reverse in (False, True):
        page = await hub.history("g", reverse=reverse)
        assert [message.position for message in page.messages] == [published]
    await trio.sleep(5)
    told = await hub.history("g", Position(published.epoch, 0))
    assert (told.messages, told.gap) == ((), Gap("g", published.epoch, 1, 1, GapReason.LOST))
    await trio.sleep_until(left + 999)
    assert (await hub.history("g")).position == published  # reading has not prolonged it
    await trio.sleep_until(left + 1002)
    assert (await hub.history("g")).position == Position("", 0)
    afresh = await hub.publish("g", Draft.of("afresh"))
    assert (afresh.epoch != published.epoch, afresh.offset) == (True, 1)
    told = await hub.history("g", published)
    assert told.gap == Gap("g", afresh.epoch, 1, 0, GapReason.EPOCH, before=published.epoch)
    assert [message.offset for message in told.messages] == [1]


async def test_a_member_that_comes_back_in_time_finds_the_position_it_left(
    make_timed_engine: MakeEngine, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings(history_ttl=10.0, position_ttl=100.0)
    hub = Hub(settings, make_timed_engine(settings))
    await nursery.start(hub.run)
    first = await hub.publish("g", Draft.of("x"))
    for _ in range(5):  # each time the position's time begins again
        await trio.sleep(90)
        async with trio.open_nursery() as stay:
            await stay.start(member, hub, "g", MemoryTransport())
            stay.cancel_scope.cancel()
    await trio.sleep(90)
    assert (await hub.info("g")).epoch == first.epoch
    assert (await hub.publish("g", Draft.of("y"))).offset == 2


async def test_the_unkind_engine_is_unkind(autojump_clock: trio.testing.MockClock) -> None:
    """The suite proves nothing if its worst engine behaves."""
    settings = Settings(inbox=1000)
    engine = UnkindEngine(settings, seed=0)
    inbox = Inbox(5000)
    got: list[int] = []
    async with engine.subscribe("g", inbox):
        for count in range(500):
            await engine.publish("g", Draft.of(count))
            await trio.sleep(0.1)
        got.extend(item.offset for item in await inbox.take() if isinstance(item, Message))
    assert got != sorted(got)
    assert len(set(got)) < len(got)
    assert engine.lost > 0
    assert set(range(1, 400)) - set(got)


async def test_of_all_with_one_idempotency_key_a_group_is_given_one(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    client = MemoryTransport()
    await nursery.start(member, hub, "g", client)
    receipts: list[Receipt] = []

    async def publish() -> None:
        receipts.append(await hub.publish("g", Draft.of("paid", idempotency_key="order-7")))

    async with trio.open_nursery() as publishers:
        for _ in range(5):
            publishers.start_soon(publish)
    await publish()
    assert len({replace(receipt, repeated=False) for receipt in receipts}) == 1
    assert sorted(receipt.repeated for receipt in receipts) == [False, *[True] * 5]
    for other in (Draft.of("unpaid", idempotency_key="order-7"), Draft.of(b"paid", idempotency_key="order-7")):
        with pytest.raises(IdempotencyConflict):
            await hub.publish("g", other)
    assert (await hub.publish("another", Draft.of("unpaid", idempotency_key="order-7"))).offset == 1
    assert (await hub.publish("g", Draft.of("paid"))).offset == 2
    await eventually(lambda: len(seen(client)) >= 2)
    assert seen(client) == [1, 2]


async def test_what_is_expected_decides_whether_it_is_published(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)

    async def publish(expected: Position) -> Position:
        receipt = await hub.publish("g", Draft.of("x", expected=expected))
        return Position(receipt.epoch, receipt.offset)

    for elsewhere in (Position("e", 0), Position("e", 1), Position("", 1)):
        with pytest.raises(UnexpectedPosition) as unknown:
            await publish(elsewhere)
        assert unknown.value.position == Position("", 0)
    assert await hub.engine.position("g") == Position("", 0)  # asking has made no group
    first = await publish(OLDEST)
    second = await publish(first)
    assert second == Position(first.epoch, 2)
    for elsewhere in (OLDEST, Position(first.epoch, 0), first, Position(first.epoch, 3), Position("other", 2)):
        with pytest.raises(UnexpectedPosition) as moved:
            await publish(elsewhere)
        assert moved.value.position == second
    page = await hub.engine.read("g", 0, 10)
    assert (page.position, [each.offset for each in page.messages]) == (second, [1, 2])


async def test_the_beginning_is_expected_of_a_group_that_has_members_and_no_message(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    client = MemoryTransport()
    for group in ("by epoch", "by nothing"):
        await nursery.start(member, hub, group.replace(" ", "-"), client)
    at = await hub.engine.position("by-epoch")
    assert (bool(at.epoch), at.offset) == (True, 0)
    assert (await hub.publish("by-epoch", Draft.of("x", expected=at))).offset == 1
    assert (await hub.publish("by-nothing", Draft.of("x", expected=OLDEST))).offset == 1
    with pytest.raises(UnexpectedPosition):
        await hub.publish("by-epoch", Draft.of("x", expected=at))
    await eventually(lambda: len(client.received) >= 2)


async def test_a_repeat_is_answered_wherever_its_group_is_by_then(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    once = Draft.of("paid", idempotency_key="order-7", expected=OLDEST)
    first = await hub.publish("g", once)
    await hub.publish("g", Draft.of("meanwhile"))
    assert await hub.publish("g", once) == replace(first, repeated=True)
    assert await hub.publish("g", replace(once, exclude="another-one")) == replace(first, repeated=True)
    late = Draft.of("unpaid", idempotency_key="order-8", expected=OLDEST)
    with pytest.raises(UnexpectedPosition):
        await hub.publish("g", late)
    third = await hub.publish("g", replace(late, expected=Position(first.epoch, 2)))  # a refusal is not remembered
    assert (third.offset, third.repeated) == (3, False)


async def test_a_counter_counts_every_increment_once_however_many_race(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    refused = 0

    async def increment() -> None:
        nonlocal refused
        for _ in range(5):
            while True:
                page = await hub.engine.read_back("g", None, 1)
                value = int(page.messages[0].data) if page.messages else 0
                try:
                    await hub.publish("g", Draft.of(value + 1, expected=page.position))
                    break
                except UnexpectedPosition:
                    refused += 1

    async with trio.open_nursery() as racers:
        for _ in range(6):
            racers.start_soon(increment)
    page = await hub.engine.read("g", 0, 100)
    assert [int(each.data) for each in page.messages] == [*range(1, 31)]
    assert refused > 0


async def test_who_is_excluded_is_told_the_offset_in_the_place_of_the_message(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    settings = Settings()
    hub = Hub(settings, make_engine(settings))
    await nursery.start(hub.run)
    author, other, later = MemoryTransport(), MemoryTransport(), MemoryTransport()
    await nursery.start(member, hub, "g", author)
    (connection,) = hub.roster
    await nursery.start(member, hub, "g", other)
    epoch = (await hub.engine.position("g")).epoch
    for number in range(1, 31):
        await hub.publish("g", Draft.of(number, exclude=connection.id if number % 3 == 0 else "nobody"))
    await eventually(lambda: len(author.received) >= 30 and len(other.received) >= 30)
    assert [each if isinstance(each, Delivered) else each.offset for each in author.received] == [  # type: ignore[union-attr]
        Delivered("g", epoch, number) if number % 3 == 0 else number for number in range(1, 31)
    ]
    assert seen(other) == [*range(1, 31)]
    page = await hub.engine.read("g", 27, 10)
    assert [each.exclude for each in page.messages] == ["nobody", "nobody", connection.id]

    async def come_back() -> None:
        async with open_connection(hub, later) as again:
            again.id = connection.id  # as if it had been in another group, and comes to this one with what it has
            await again.join("g", Position(epoch, 28))
            await trio.sleep_forever()

    nursery.start_soon(come_back)
    await eventually(lambda: len(later.received) >= 2)
    assert later.received[1] == Delivered("g", epoch, 30)


ANN = Identity.of("ann", {"name": "Ann"})


class Told(Nobody):
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Change | str] = []

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        self.told += [*["occupied"] * occupied, *changes, *["vacated"] * vacated]


async def test_members_come_and_go_and_one_host_is_told(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    await nursery.start(engine.run, host)
    ann, other = Member("c1", ANN), Member("c2", Identity.of(info={"x": 1}, claimed=True))
    wanted: list[Change | str] = ["occupied", Entered(ann), Entered(other)]
    for each in (ann, other, ann):
        engine.enter("g", each)
    await eventually(lambda: len(host.told) >= 3)
    assert host.told == wanted
    page = await engine.members("g", None, 10)
    assert (list(page.members), page.count, page.users, page.next) == ([ann, other], 2, 1, None)
    engine.depart("g", "c1", Reason.REMOVED)
    engine.depart("g", "c2", Reason.LEFT)
    engine.depart("g", "nobody", Reason.LEFT)
    await eventually(lambda: len(host.told) >= 6)
    assert host.told == [*wanted, Departed(ann, Reason.REMOVED), Departed(other, Reason.LEFT), "vacated"]
    assert (await engine.members("g", None, 10)).count == 0


async def test_members_are_paged_in_the_order_of_their_connections(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    await nursery.start(engine.run, host)
    clients = [f"{number:03}-Az_" for number in range(250)]
    for client in Random(1).sample(clients, k=250):
        engine.enter("g", Member(client, ANN))
    await eventually(lambda: len(host.told) >= 251)
    found, after = [], None
    while True:
        page = await engine.members("g", after, 100)
        assert (page.count, page.users) == (250, 1)
        found += [member.client for member in page.members]
        after = page.next
        if after is None:
            break
        assert len(found) % 100 == 0
    assert found == clients


async def test_who_comes_back_within_the_grace_has_moved_and_who_does_not_has_left_when_it_is_over(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings(presence_grace=1.5)), Told()
    await nursery.start(engine.run, host)
    ann, back, other = Member("c1", ANN), Member("c3", ANN), Member("c2", Identity.of("bob"))
    for each in (ann, other):
        engine.enter("g", each)
    await eventually(lambda: len(host.told) >= 3)
    host.told.clear()
    for each in (ann, other):
        engine.depart("g", each.client, Reason.LEFT)
    engine.enter("g", back)
    await eventually(lambda: host.told)
    assert host.told == [Moved(back, "c1")]
    assert [each.client for each in (await engine.members("g", None, 10)).members] == ["c2", "c3"]
    await eventually(lambda: len(host.told) >= 2)
    assert host.told[1:] == [Departed(other, Reason.LEFT)]
    engine.depart("g", "c3", Reason.REMOVED)
    await eventually(lambda: len(host.told) >= 4)
    assert host.told[2:] == [Departed(back, Reason.REMOVED), "vacated"]


async def test_groups_that_want_no_presence_have_no_members(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = make_engine(Settings(namespaces={"quiet": GroupSettings(presence=False)}))
    host = Told()
    await nursery.start(engine.run, host)
    engine.enter("quiet:g", Member("c1"))
    engine.depart("quiet:g", "c1", Reason.LEFT)
    engine.enter("g", Member("c2"))
    await eventually(lambda: len(host.told) >= 2)
    assert host.told == ["occupied", Entered(Member("c2"))]
    assert (await engine.members("quiet:g", None, 10)).count == 0


async def test_an_inbox_is_told_who_comes_and_goes(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host, inbox = make_engine(Settings()), Told(), Inbox(10)
    await nursery.start(engine.run, host)
    async with engine.subscribe("g", inbox):
        inbox.notices.arouse = lambda: None
        joined: list[Member] = []
        left: list[tuple[str, Reason]] = []

        def heard(count: int) -> bool:
            for event in inbox.notices.take("g"):
                joined.extend(event.joined)
                left.extend(event.left)
            return len(joined) + len(left) >= count

        engine.enter("g", Member("c1", ANN))
        engine.enter("g", Member("c2"))
        await eventually(lambda: heard(2))
        engine.depart("g", "c1", Reason.REMOVED)
        await eventually(lambda: heard(3))
        assert (joined, left) == ([Member("c1", ANN), Member("c2")], [("c1", Reason.REMOVED)])
        inbox.close()


async def test_who_was_here_has_left_when_the_engine_ends(
    make_engine: MakeEngine, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run, host)
        engine.enter("g", Member("c1", ANN))
        await eventually(lambda: len(host.told) >= 2)
        nursery.cancel_scope.cancel()
    assert host.told[2:] == [Departed(Member("c1", ANN), Reason.LEFT), "vacated"]
