"""Members on a server: any sequence of what processes can do and suffer, against a plain roll that knows everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engines.redis_scene import KEYS, PlainCaller, Scene, scene_of
from tests.redis_servers import Cluster, Server
from triocast import GroupSettings, Settings
from triocast.core.identity import Identity
from triocast.core.presence import Change, Departed, Member, Reason, Roll
from triocast.engines import Nobody
from triocast.engines.redis import rollcall
from triocast.engines.redis.book import BATCH
from triocast.engines.redis.keys import partition_of
from triocast.engines.redis.roll_store import LOST, RollStore, Strike
from triocast.engines.redis.rollcall import Rollcall
from triocast.engines.redis.sweep import Sweep
from triocast.errors import UnknownOutcome

pytestmark = pytest.mark.once

GRACE = 1000.0  # seconds: it is over when a step says so
GROUPS = ["a", "slow:a"]
SETTINGS = Settings(namespaces={"slow": GroupSettings(presence_grace=GRACE)})
IDENTITIES = [
    Identity.of(),
    Identity.of("ann"),
    Identity.of("ann", {"at": "home"}),
    Identity.of("böb 1", {"x": '"}] \n'}),
    Identity.of(info={"name": "Ann"}, claimed=True),
]


class Lossy:
    """A caller whose next answer can be lost, after the server has done what was asked."""

    def __init__(self, caller: PlainCaller) -> None:
        self._caller = caller
        self.losing = False

    async def call(self, partition: int, *command: bytes | str | int) -> Any:
        reply = await self._caller.call(partition, *command)
        if self.losing and command[0] in (b"EVALSHA", b"EVAL"):
            self.losing = False
            raise UnknownOutcome("the answer was lost")
        return reply


class Told(Nobody):
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.marks: list[str] = []

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        self.changes += changes
        self.marks += ["occupied"] * occupied + ["vacated"] * vacated


class Process:
    """One process's members, and what its application is told."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.name = name
        self.caller = Lossy(scene.caller)
        self.store = RollStore(self.caller, KEYS, name)
        self.rollcall = Rollcall(self.store, name, SETTINGS)
        self.sweep = Sweep(self.store, name, self.rollcall)
        self.host = Told()

    async def tell(self) -> None:
        for group in GROUPS:
            if partition_of(group) in self.rollcall._books:
                await self.rollcall.tell(partition_of(group), self.host)

    async def look(self, group: str) -> None:
        """Look at the group's partition as the sweep does, and tell what that shows to be wrong."""
        await self.sweep._look(partition_of(group), self.host)
        await self.tell()


def end_graces(scene: Scene, group: str) -> None:
    """Let time pass until the grace of everybody is over."""
    admin, leaving = scene.node(group).admin, KEYS.leaving(partition_of(group))
    back = KEYS.of(group).back
    for place, due in admin.zrange(leaving, 0, -1, withscores=True):
        client = place.split(b" ", 1)[1]
        admin.zadd(leaving, {place: due - 2000 * GRACE})
        for entry in admin.zrange(back, 0, -1):
            digest, until, who = entry.split(b" ", 2)
            if who == client:
                admin.zrem(back, entry)
                admin.zadd(back, {b"%b %015d %b" % (digest, int(until) - 2000 * GRACE, who): 0})


NUMBERS = st.integers(0, 2)  # of processes
CLIENTS = st.integers(0, 4)
OPS = st.lists(
    st.tuples(CLIENTS, st.sampled_from(["enter", "left", "removed"]), st.integers(0, len(IDENTITIES) - 1)),
    min_size=1,
    max_size=5,
    unique_by=lambda op: op[0],
)
STEPS = st.one_of(
    st.tuples(st.just("tell"), NUMBERS, st.sampled_from(GROUPS), OPS.map(sorted), st.booleans()),
    st.tuples(st.just("tell"), NUMBERS, st.sampled_from(GROUPS), OPS.map(sorted), st.booleans()),
    st.tuples(st.just("expire"), NUMBERS, st.sampled_from(GROUPS), st.booleans()),
    st.tuples(st.just("lose"), NUMBERS, st.sampled_from(GROUPS), st.booleans(), st.booleans()),
    st.tuples(st.just("page"), st.sampled_from(GROUPS), st.integers(1, 4)),
)


class World:
    """Does each step to the servers and to a roll of each group, and compares what anybody can see."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.processes = [Process(scene, f"host:{number}") for number in range(3)]
        self.rolls = {group: Roll() for group in GROUPS}
        self.here: dict[str, list[dict[str, Member]]] = {group: [{}, {}, {}] for group in GROUPS}
        self.time = 0.0

    async def tell(self, number: int, group: str, ops: list[tuple[int, str, int]], losing: bool) -> None:
        process, roll, here = self.processes[number], self.rolls[group], self.here[group][number]
        wanted: list[Change | None] = []
        before = len(roll)
        for client, what, which in ops:
            name = f"client {number} {client}"
            if what == "enter":
                member = here.setdefault(name, Member(name, IDENTITIES[which]))
                process.rollcall.enter(group, member)
                wanted.append(roll.enter(member))
            elif here.pop(name, None) is not None:
                grace = GRACE if group == "slow:a" and what == "left" else None
                process.rollcall.depart(group, name, Reason(what))
                wanted.append(roll.depart(name, Reason(what), None if grace is None else self.time + grace))
        process.caller.losing = losing
        await process.tell()
        process.caller.losing = False
        await trio.sleep(0.002)  # those that left earlier are the first to come back; the server counts milliseconds
        changes = [change for change in wanted if change is not None]
        self.compare(process, changes, before, len(roll))

    async def expire(self, number: int, group: str, losing: bool) -> None:
        process, roll = self.processes[number], self.rolls[group]
        before = len(roll)
        self.time += 2 * GRACE
        changes = sorted(roll.expire(self.time), key=client_of)
        end_graces(self.scene, group)
        due = [(group, change.member.client) for change in changes]
        process.caller.losing = losing
        if due:
            await process.sweep._strike(partition_of(group), Strike(process.sweep._number(), due), process.host)
        process.caller.losing = False
        self.compare(process, changes, before, len(roll))
        await process.look(group)  # there is nothing left to be done
        self.compare(process, [], 0, 1)

    async def lose(self, number: int, group: str, losing: bool, returns: bool) -> None:
        """A process is taken for dead; it lives, and comes back now, or was never to be seen again."""
        process, other = self.processes[number], self.processes[(number + 1) % 3]
        roll, here = self.rolls[group], self.here[group][number]
        before = len(roll)
        partition = partition_of(group)
        look = await other.store.look(partition, 0, BATCH)
        if process.name not in look.processes:
            assert not here
            return
        other.caller.losing = losing
        await other.sweep._bury(partition, process.name, look.processes[process.name], other.host)
        changes: list[Change] = []
        for client, member in here.items():
            roll.depart(client, Reason.LOST)
            changes.append(Departed(member, Reason.LOST))
        self.compare(other, sorted(changes, key=client_of), before, len(roll), ordered=False)
        other.caller.losing = False
        if returns:
            before = len(roll)
            await process.look(group)
            entered = [roll.enter(member) for member in here.values()]
            self.compare(process, [change for change in entered if change], before, len(roll))
        else:
            here.clear()
            self.processes[number] = Process(self.scene, f"{process.name}'")
            for name in GROUPS:  # its members in the other group are found out likewise
                if name != group and self.here[name][number]:
                    self.here[name], before_it = [*self.here[name]], len(self.rolls[name])
                    shown = (await other.store.look(partition_of(name), 0, BATCH)).processes[process.name]
                    await other.sweep._bury(partition_of(name), process.name, shown, other.host)
                    gone: list[Change] = [Departed(each, Reason.LOST) for each in self.here[name][number].values()]
                    for client in self.here[name][number]:
                        self.rolls[name].depart(client, Reason.LOST)
                    self.here[name][number] = {}
                    self.compare(other, gone, before_it, len(self.rolls[name]), ordered=False)

    async def page(self, group: str, limit: int) -> None:
        after: str | None = None
        while True:
            found = await self.processes[0].store.page(group, after, limit)
            wanted = self.rolls[group].page(after, limit)
            assert (list(found.members), found.count, found.users, found.next) == (
                list(wanted.members),
                wanted.count,
                wanted.users,
                wanted.next,
            )
            after = found.next
            if after is None:
                return

    def compare(
        self, process: Process, changes: Sequence[Change], before: int, after: int, *, ordered: bool = True
    ) -> None:
        """Nobody but `process` was told, and of nothing but `changes`."""
        told, marks = process.host.changes, process.host.marks
        assert (told if ordered else sorted(told, key=client_of)) == (
            list(changes) if ordered else sorted(changes, key=client_of)
        )
        entered = any(not isinstance(change, Departed) for change in changes)
        wanted = ["occupied"] if entered and not before else []
        assert marks == wanted + (["vacated"] if changes and not after else [])
        for each in self.processes:
            assert each is process or (each.host.changes, each.host.marks) == ([], [])
        process.host.changes, process.host.marks = [], []


def client_of(change: Change) -> str:
    return change.member.client


@pytest.mark.parametrize("where", ["valkey", "valkey_cluster", "debian_redis"])
def test_members_on_a_server_are_what_a_plain_roll_says(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server | Cluster = request.getfixturevalue(where)
    monkeypatch.setattr(rollcall, "AGAIN", 0)
    monkeypatch.setattr("triocast.engines.redis.sweep.AGAIN", 0)

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STEPS, max_size=25))
    def run(plan: list[tuple[Any, ...]]) -> None:
        async def main() -> None:
            async with scene_of(server) as scene:
                for node in scene.nodes:
                    node.admin.flushall()
                world = World(scene)
                for what, *how in plan:
                    await getattr(world, what)(*how)
                for group in GROUPS:
                    await world.page(group, 100)
                await nothing_is_left(world)

        trio.run(main)

    run()


async def nothing_is_left(world: World) -> None:
    """When everybody has left and every grace is over, the servers keep no trace that does not go by itself."""
    for number, process in enumerate(world.processes):
        for group in GROUPS:
            for client in world.here[group][number]:
                process.rollcall.depart(group, client, Reason.LEFT)
        await process.tell()
    for group in GROUPS:
        end_graces(world.scene, group)
        await world.processes[0].look(group)
    for node in world.scene.nodes:
        assert [key for key in node.admin.keys("*") if node.admin.pttl(key) < 0] == []


@pytest.fixture
async def make_process(valkey: Server) -> Any:
    async with scene_of(valkey) as scene:
        yield lambda name: Process(scene, name)


async def test_a_batch_that_was_done_already_is_given_its_first_answer(make_process: Callable[[str], Process]) -> None:
    process = make_process("p")
    process.rollcall.enter("a", Member("c"))
    book = process.rollcall._books[partition_of("a")]
    batch = book.take()
    assert batch is not None
    first = await process.store.change(partition_of("a"), batch)
    assert first is not None
    assert (first.counts, first.results) == ({"a": (0, 1)}, [b"+"])
    assert await process.store.change(partition_of("a"), batch) == first


async def test_what_the_server_lost_is_told_again_and_no_application_twice(
    make_process: Callable[[str], Process], valkey: Server
) -> None:
    process = make_process("p")
    for client in ("stays", "leaves", "was there"):
        process.rollcall.enter("a", Member(client))
    await process.tell()
    assert len(process.host.changes) == 3
    process.host.changes.clear()
    valkey.admin.flushall()
    process.rollcall.depart("a", "leaves", Reason.REMOVED)
    process.rollcall.enter("a", Member("comes"))
    await process.tell()
    assert sorted(map(client_of, process.host.changes)) == ["comes", "leaves"]
    page = await process.store.page("a", None, 10)
    assert [member.client for member in page.members] == ["comes", "stays", "was there"]


async def test_what_a_failover_brought_back_is_struck_off_again(
    make_process: Callable[[str], Process], valkey: Server
) -> None:
    process = make_process("p")
    process.rollcall.enter("a", Member("stays"))
    process.rollcall.enter("a", Member("leaves"))
    await process.tell()
    before = {key: valkey.admin.dump(key) for key in valkey.admin.keys("*")}
    process.rollcall.depart("a", "leaves", Reason.LEFT)
    await process.tell()
    assert isinstance(process.host.changes[-1], Departed)
    process.host.changes.clear()
    valkey.admin.flushall()
    for key, value in before.items():
        valkey.admin.restore(key, 0, value)
    await process.look("a")
    page = await process.store.page("a", None, 10)
    assert ([member.client for member in page.members], page.count) == (["stays"], 1)
    assert process.host.changes == []


async def test_who_is_dead_for_others_and_comes_back_joins_anew(make_process: Callable[[str], Process]) -> None:
    frozen, other = make_process("frozen"), make_process("other")
    for number in range(BATCH + 5):
        frozen.rollcall.enter("a", Member(f"c{number}"))
    await frozen.tell()
    seen = (await other.store.look(partition_of("a"), 1, BATCH)).processes["frozen"]
    await other.sweep._bury(partition_of("a"), "frozen", seen, other.host)
    assert len({client_of(change) for change in other.host.changes}) == len(other.host.changes) == BATCH + 5
    assert {change.reason for change in other.host.changes if isinstance(change, Departed)} == {Reason.LOST}
    assert other.host.marks == ["vacated"]
    frozen.host.changes.clear()
    await frozen.look("a")
    assert len(frozen.host.changes) == BATCH + 5
    assert (await other.store.page("a", None, 1)).count == BATCH + 5


async def test_who_shows_that_it_lives_is_not_struck_off(make_process: Callable[[str], Process]) -> None:
    alive, other = make_process("alive"), make_process("other")
    alive.rollcall.enter("a", Member("c"))
    await alive.tell()
    partition = partition_of("a")
    seen = (await other.store.look(partition, 1, BATCH)).processes["alive"]
    await alive.store.look(partition, 7, BATCH)
    await other.sweep._bury(partition, "alive", seen, other.host)
    await other.sweep._bury(partition, "alive", LOST, other.host)
    assert other.host.changes == []
    assert (await other.store.page("a", None, 1)).count == 1
