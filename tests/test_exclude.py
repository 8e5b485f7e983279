"""A message that is not given to one connection: what that is told in its place, by every way and policy."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.transports.test_broadcast import Sink, join, start
from triocast import Connection, Draft, Gap, InvalidConnectionId, Join, Message, Policy, Position, Settings
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST, Wish
from triocast.core.wire import JSON, RAW, Delivered, Format, Joined, compressed
from triocast.engines.memory import MemoryEngine
from triocast.errors import MISSED
from triocast.hub import Hub
from triocast.testing import MemoryTransport

Told = int | tuple[str, int] | tuple[int, int, str]


class Scene:
    """A hub with one group, `g`; `author` is the one whom messages exclude, `other` is not."""

    def __init__(self, nursery: trio.Nursery, **values: object) -> None:
        settings = Settings(**values)  # type: ignore[arg-type]
        self.hub = Hub(settings, MemoryEngine(settings))
        self.author, self.other = MemoryTransport(), MemoryTransport()
        self.own = ""  # the author's connection
        self._nursery = nursery

    async def begin(self) -> None:
        await self._nursery.start(self.hub.run)
        self.own = (await self.join(self.author)).id
        await self.join(self.other)

    async def join(self, transport: MemoryTransport, wish: Wish | None = None, *, strict: bool = False) -> Connection:
        connection: Connection = await self._nursery.start(self._serve, transport, wish, strict)
        return connection

    async def _serve(
        self, transport: MemoryTransport, wish: Wish | None, strict: bool, task_status: trio.TaskStatus[Connection]
    ) -> None:
        async with open_connection(self.hub, transport, ["g"], {"g": wish}, strict=strict) as connection:
            task_status.started(connection)
            await trio.sleep_forever()

    async def publish(self, *texts: str, key: str | None = None) -> None:
        """Publish texts; those that begin with "own" are not for the author."""
        for text in texts:
            own = self.own if text.startswith("own") else None
            await self.hub.publish("g", Draft.of(text, key=key, exclude=own))
            await trio.testing.wait_all_tasks_blocked()


def told(transport: MemoryTransport) -> list[Told]:
    """Offsets of messages, of what was delivered with that said, and first, last and reason of gaps."""
    found: list[Told] = []
    for each in transport.received:
        match each:
            case Message():
                found.append(each.offset)
            case Delivered():
                found.append(("delivered", each.offset))
            case Gap():
                found.append((each.first, each.last, each.reason.value))
            case _:
                assert isinstance(each, Joined)
    return found


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    scene = Scene(nursery, max_lag=10)
    await scene.begin()
    return scene


async def test_who_is_excluded_is_told_in_its_place_and_goes_on_with_what_follows(scene: Scene) -> None:
    await scene.publish("a", "own", "b", "own", "own", "c")
    assert told(scene.author) == [1, ("delivered", 2), 3, ("delivered", 4), ("delivered", 5), 6]
    assert told(scene.other) == [1, 2, 3, 4, 5, 6]
    info = await scene.hub.info("g")
    assert (info.behind, info.dropped) == (0, 0)


async def test_what_is_not_given_is_not_counted_as_delivered(scene: Scene) -> None:
    await scene.publish("own", "all")
    assert scene.hub.meters.of("g").delivered == 3


async def test_who_was_behind_is_told_so_from_the_log(scene: Scene) -> None:
    scene.author.stall()
    await scene.publish("a", "own", "b", "own")
    scene.author.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert told(scene.author) == [1, ("delivered", 2), 3, ("delivered", 4)]


async def test_nobody_is_excluded_by_an_id_that_nobody_has(scene: Scene) -> None:
    await scene.hub.publish("g", Draft.of("x", exclude="nobody"))
    await trio.testing.wait_all_tasks_blocked()
    assert told(scene.author) == told(scene.other) == [1]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.DROP_OLDEST, [(1, 2, "slow"), ("delivered", 3), 4, 5, ("delivered", 6)]),
        (Policy.DROP_NEWEST, [1, ("delivered", 2), ("delivered", 3), 4, (5, 6, "slow")]),
        (Policy.LATEST, [(1, 2, "slow"), (3, 5, "superseded"), ("delivered", 6)]),
    ],
)
async def test_a_laggard_is_told_what_its_policy_leaves_of_it(
    nursery: trio.Nursery, policy: Policy, expected: list[Told]
) -> None:
    scene = Scene(nursery, policy=policy, max_lag=4)
    await scene.begin()
    scene.author.stall()
    await scene.publish("a", "own", "own", "b", "c", "own")
    scene.author.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert told(scene.author) == expected
    assert told(scene.other) == [1, 2, 3, 4, 5, 6]


async def test_a_message_of_history_that_excludes_its_reader_is_told_so(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, history_size=3)
    await scene.begin()
    await scene.publish("a", "b", "own", "c")
    late = MemoryTransport(JSON)
    async with open_connection(scene.hub, late, []) as connection:
        connection.id = scene.own  # it was in other groups when it published
        await connection.join("g", Position((await scene.hub.info("g")).epoch, 0))
        await trio.testing.wait_all_tasks_blocked()
    assert told(late) == [(1, 1, "lost"), 2, ("delivered", 3), 4]


async def test_a_last_value_that_excludes_its_reader_is_told_so(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, history_size=0, join=Join.LAST)
    await scene.begin()
    await scene.publish("first", key="a")
    await scene.publish("own", key="b")
    late = MemoryTransport(JSON)
    async with open_connection(scene.hub, late, []) as connection:
        connection.id = scene.own
        await connection.join("g")
        await trio.testing.wait_all_tasks_blocked()
    assert told(late) == [1, ("delivered", 2)]


async def test_who_comes_back_has_another_connection_and_is_given_all(scene: Scene) -> None:
    await scene.publish("own")
    again = MemoryTransport()
    await scene.join(again, OLDEST)
    await trio.testing.wait_all_tasks_blocked()
    assert told(again) == [1]


async def test_a_strict_client_misses_nothing_by_it(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, max_lag=4)
    await scene.begin()
    strict = MemoryTransport()
    scene.own = (await scene.join(strict, strict=True)).id
    await scene.publish("own", "a", "own")
    assert (told(strict), strict.closed) == ([("delivered", 1), 2, ("delivered", 3)], None)
    strict.stall()
    await scene.publish("own", "b", "c", "d", "e", "f")
    strict.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert strict.closed is not None
    assert strict.closed.code == MISSED.code


async def test_the_beginning_is_told_before_it(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    await scene.begin()
    greeted = MemoryTransport(JSON)
    greeted.stall()
    scene.own = (await scene.join(greeted)).id
    await scene.publish("own")
    greeted.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(each) for each in greeted.received] == [Joined, Delivered]


@pytest.mark.parametrize("form", [RAW, JSON, compressed(RAW), compressed(JSON)], ids=repr)
async def test_a_round_is_the_same_bytes_for_everybody_else_and_wakes_one(nursery: trio.Nursery, form: Format) -> None:
    hub, sinks = await start(nursery), [Sink(form) for _ in range(300)]
    await join(hub, *sinks)
    for sink in sinks:
        hub._groups["a"].park(sink.subscription)  # formats that greet have been greeted
        sink.woken = 0
    author = sinks[140]
    await hub.publish("a", Draft.of("text " * 100, exclude=author.id))
    await trio.testing.wait_all_tasks_blocked()
    others = [sink for sink in sinks if sink is not author]
    assert all(len(sink.written) == 1 and sink.written[0] is sinks[0].written[0] for sink in others)
    assert {(sink.subscription.cursor, sink.woken) for sink in others} == {(1, 0)}
    assert (author.written, author.woken, author.subscription.cursor) == ([], 1, 0)
    (given,) = author.subscription.take(1000)
    assert isinstance(given, Delivered)
    assert author.subscription.settle()
    await hub.publish("a", Draft.of("to all"))
    await trio.testing.wait_all_tasks_blocked()
    assert author.written == sinks[0].written[1:]


async def test_one_round_may_exclude_several(nursery: trio.Nursery) -> None:
    hub, sinks = await start(nursery), [Sink() for _ in range(5)]
    await join(hub, *sinks)
    async with trio.open_nursery() as publishers:
        for sink in sinks[:3]:
            publishers.start_soon(hub.publish, "a", Draft.of(sink.id, exclude=sink.id))
    await trio.testing.wait_all_tasks_blocked()
    for sink in sinks[:3]:
        given = sink.subscription.take(1000)
        own = [each.offset for each in given if isinstance(each, Delivered)]
        assert len(own) == 1
        assert b"".join(sink.written).count(sink.id.encode()) == 0
    for sink in sinks[3:]:
        assert b"".join(sink.written).count(b"\x81") == 3


@pytest.mark.parametrize("bad", ["", "a b", "ü", "x" * 65, "a:b"])
def test_what_is_no_id_is_refused_with_the_rule(bad: str) -> None:
    with pytest.raises(InvalidConnectionId, match="1 to 64 letters, digits, '-' and '_'"):
        Draft.of("x", exclude=bad)
