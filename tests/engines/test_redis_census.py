from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.engines.redis_scene import KEYS, PlainCaller, Scene, scene_of
from tests.redis_servers import Server
from triocast import Draft, Settings
from triocast.engines import Audience, total
from triocast.engines.redis.census import BATCH, EVERY, REFRESH, Reporter, process_name
from triocast.engines.redis.keys import PARTITIONS, partition_of
from triocast.engines.redis.store import Store
from triocast.errors import EngineUnavailable


class Watched:
    """Notes what passes on its way to the servers, and lets nothing pass to partitions that are cut off."""

    def __init__(self, caller: PlainCaller) -> None:
        self._caller = caller
        self.cut: set[int] = set()
        self.sent: list[tuple[int, int]] = []  # partition, number of keys

    async def call(self, partition: int, *command: bytes | str | int) -> Any:
        if partition in self.cut:
            raise EngineUnavailable("cut off")
        if command[0] == b"EVALSHA":
            assert isinstance(command[2], int)
            self.sent.append((partition, command[2]))
        return await self._caller.call(partition, *command)

    def groups(self) -> int:
        """How many groups were reported since this was asked the last time."""
        sent, self.sent = self.sent, []
        return sum((keys - 3) // 2 for _, keys in sent)


class Process:
    """One process: what it has, and its reporter."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.counts: dict[str, Audience] = {}
        self.caller = Watched(scene.caller)
        self.store = Store(self.caller, Settings(), KEYS)
        self.reporter = Reporter(self.store, name, self._look)

    async def _look(self) -> dict[str, Audience]:
        return dict(self.counts)


@pytest.fixture
async def scene(valkey: Server) -> AsyncIterator[Scene]:
    async with scene_of(valkey) as made:
        yield made


async def test_what_every_process_has_is_known_to_all(scene: Scene) -> None:
    one, two = Process(scene, "one"), Process(scene, "two")
    one.counts = {"a": Audience(3, 1), "b": Audience(1, 0)}
    two.counts = {"a": Audience(4, 0)}
    await one.reporter.report()
    await two.reporter.report()
    found = await two.store.census(["a", "b", "c"])
    assert found == {"a": {"one": Audience(3, 1), "two": Audience(4, 0)}, "b": {"one": Audience(1, 0)}, "c": {}}
    assert total(found["a"].values()) == Audience(7, 1) == (await one.store.publish("a", Draft.of("x"))).audience
    one.counts = {"a": Audience(2, 2)}
    await one.reporter.report()
    assert await two.store.census(["a", "b"]) == {"a": {"one": Audience(2, 2), "two": Audience(4, 0)}, "b": {}}
    assert (await one.store.publish("a", Draft.of("x"))).audience == Audience(6, 2)


async def test_only_what_has_changed_is_told_and_everything_now_and_then(scene: Scene) -> None:
    process = Process(scene, "p")
    process.counts = {f"g{number}": Audience(1, 0) for number in range(1000)}
    for _ in range(REFRESH):
        await process.reporter.report()
    process.caller.groups()
    told = []
    for number in range(REFRESH):
        await process.reporter.report()
        assert len(process.caller.sent) == PARTITIONS  # each hears that the process is alive
        told.append(process.caller.groups())
        process.counts[f"g{number}"] = Audience(2, 0)
    assert 1000 <= sum(told) <= 1000 + REFRESH
    assert max(told) < 1000 // REFRESH * 2


async def test_a_partition_without_members_is_left_alone(scene: Scene) -> None:
    process = Process(scene, "p")
    process.counts = {"a": Audience(1, 0)}
    await process.reporter.report()
    assert [partition for partition, _ in process.caller.sent] == [partition_of("a")]
    process.counts = {}
    await process.reporter.report()
    assert process.caller.groups() == 2
    await process.reporter.report()
    assert process.caller.sent == []
    assert await process.store.census(["a"]) == {"a": {}}


async def test_a_server_that_lost_everything_is_told_everything_at_once(scene: Scene) -> None:
    process = Process(scene, "p")
    process.counts = {f"g{number}": Audience(number + 1, 0) for number in range(1000)}
    await process.reporter.report()
    scene.nodes[0].admin.flushall()
    await process.reporter.report()
    found = await process.store.census(list(process.counts))
    assert found == {group: {"p": count} for group, count in process.counts.items()}


async def test_a_partition_that_is_cut_off_holds_up_no_other_and_is_told_everything_later(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "triocast.redis")
    process = Process(scene, "p")
    process.counts = {f"g{number}": Audience(1, 0) for number in range(1000)}
    await process.reporter.report()
    cut = partition_of("g0")
    process.caller.cut = {cut}
    gone = next(group for group in process.counts if partition_of(group) == cut and group != "g0")
    del process.counts[gone]
    process.counts["g0"] = process.counts["elsewhere"] = Audience(9, 9)
    assert partition_of("elsewhere") != cut
    await process.reporter.report()
    await process.reporter.report()
    assert [record.message for record in caplog.records] == ["counts of 1 partitions were not reported: cut off"]
    known = await Process(scene, "other").store.census(["g0", gone, "elsewhere"])
    assert known == {"g0": {"p": Audience(1, 0)}, gone: {"p": Audience(1, 0)}, "elsewhere": {"p": Audience(9, 9)}}
    process.caller.cut = set()
    process.caller.groups()
    await process.reporter.report()
    in_cut = sum(partition_of(group) == cut for group in process.counts) + 1
    assert process.caller.groups() >= in_cut
    assert await process.store.census(["g0", gone]) == {"g0": {"p": Audience(9, 9)}, gone: {}}


async def test_groups_of_which_a_part_is_cut_off_have_no_census(scene: Scene) -> None:
    process = Process(scene, "p")
    process.caller.cut = {partition_of("a")}
    assert partition_of("b") != partition_of("a")
    with pytest.raises(EngineUnavailable, match="cut off"):
        await process.store.census(["b", "a"])
    assert await process.store.census(["b"]) == {"b": {}}


async def test_many_groups_of_one_partition_are_told_in_batches(scene: Scene) -> None:
    process = Process(scene, "p")
    names = (f"g{number}" for number in range(10**9))
    several = [name for name, _ in zip((n for n in names if partition_of(n) == 7), range(BATCH + 10), strict=False)]
    process.counts = dict.fromkeys(several, Audience(1, 1))
    await process.reporter.report()
    assert process.caller.sent == [(7, 2 * BATCH + 3), (7, 23)]
    assert set(await process.store.census(several)) == set(several)
    assert all((await process.store.census(several)).values())


async def test_reports_are_a_second_apart(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    looked: list[float] = []
    enough = trio.Event()

    async def look() -> dict[str, Audience]:
        looked.append(trio.current_time())
        if len(looked) == 5:
            enough.set()
        return {"a": Audience(len(looked), 0)}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Reporter(scene.store(), "p", look).run)
        await enough.wait()
        nursery.cancel_scope.cancel()
    assert [later - earlier for earlier, later in pairwise(looked)] == [EVERY] * 4
    assert (await scene.store().census(["a"]))["a"]["p"].subscribers >= 4


def test_no_two_processes_have_one_name() -> None:
    assert process_name() != process_name()
    assert total([]) == Audience(0, 0)


async def test_groups_are_listed_by_name_whatever_their_partitions(scene: Scene) -> None:
    process = Process(scene, "p")
    names = sorted(f"g{number}" for number in range(2000))
    process.counts = dict.fromkeys(names, Audience(1, 0))
    await process.reporter.report()
    store = scene.store()
    assert await store.listed(None, 5000) == names
    assert await store.listed(None, 1) == names[:1]
    assert await store.listed("g1", 700) == names[names.index("g1") + 1 :][:700]
    assert await store.listed("zzz", 10) == []


async def test_names_that_are_all_in_one_partition_are_listed_too(scene: Scene) -> None:
    names = (f"g{number}" for number in range(10**9))
    several = sorted(name for name, _ in zip((n for n in names if partition_of(n) == 7), range(100), strict=False))
    process = Process(scene, "p")
    process.counts = dict.fromkeys(several, Audience(1, 0))
    await process.reporter.report()
    assert await scene.store().listed(None, 60) == several[:60]
    assert await scene.store().listed(several[59], 60) == several[60:]


async def test_a_group_that_the_last_process_leaves_is_listed_no_more(scene: Scene) -> None:
    one, two = Process(scene, "one"), Process(scene, "two")
    one.counts = two.counts = {"a": Audience(1, 0), "b:}:n:c": Audience(1, 0)}
    await one.reporter.report()
    await two.reporter.report()
    one.counts = {}
    await one.reporter.report()
    assert await one.store.listed(None, 10) == ["a", "b:}:n:c"]
    await two.reporter.leave()
    assert await one.store.listed(None, 10) == []
    assert await one.store.census(["a"]) == {"a": {}}
    left = {key.rsplit(b":", 1)[1] for key in scene.nodes[0].admin.keys("*")}
    assert left == {b"p"}  # the processes', which expires


async def test_groups_of_processes_that_died_are_forgotten_by_those_that_report(scene: Scene) -> None:
    dead, living = Process(scene, "dead"), Process(scene, "living")
    same = next(name for name in (f"g{number}" for number in range(10**9)) if partition_of(name) == partition_of("a"))
    dead.counts = {"a": Audience(1, 0), same: Audience(1, 0)}
    living.counts = {same: Audience(2, 0)}
    await dead.reporter.report()
    await living.reporter.report()
    partition = partition_of("a")
    admin = scene.nodes[0].admin
    admin.zadd(KEYS.processes(partition), {"dead": 1})  # as if it had said nothing for long
    admin.zadd(KEYS.ages(partition), {"a": 1})
    living.counts = {same: Audience(3, 0)}
    await living.reporter.report()
    assert await living.store.listed(None, 10) == [same]
    assert admin.zrange(KEYS.ages(partition), 0, -1) == [same.encode()]
    assert admin.hgetall(KEYS.of(same).census) == {b"living": b"3 0"}
    assert all(admin.ttl(key) > 0 for key in (KEYS.names(partition), KEYS.ages(partition)))


async def test_who_leaves_in_the_middle_of_a_report_takes_back_all_that_may_have_been_told(scene: Scene) -> None:
    process = Process(scene, "p")
    process.counts = {f"g{number}": Audience(1, 0) for number in range(100)}
    with trio.CancelScope() as scope:
        scope.cancel()
        await process.reporter.report()
    await scene.store().report(partition_of("g1"), "p", {"g1": Audience(1, 0)})  # the one that arrived
    async with trio.open_nursery() as nursery:
        caller = process.caller.call

        async def arrives_and_is_not_answered(partition: int, *command: bytes | str | int) -> Any:
            await caller(partition, *command)
            nursery.cancel_scope.cancel()
            await trio.sleep_forever()

        process.caller.call = arrives_and_is_not_answered  # type: ignore[method-assign]
        await process.reporter.report()
    process.caller.call = caller  # type: ignore[method-assign]
    await process.reporter.leave()
    assert await process.store.listed(None, 1000) == []
