"""Any sequence of what can happen to a group, against a plain model of it that keeps everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha1

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engines.redis_scene import KEYS, Scene, age, scene_of
from tests.redis_servers import Cluster, Server
from triocast import Draft, Kind, Position
from triocast.core.message import OVERHEAD
from triocast.core.recovery import Join
from triocast.engines import Page
from triocast.engines.redis import scripts
from triocast.engines.redis.scripts import Script
from triocast.engines.redis.store import Check, Head, Store
from triocast.errors import IdempotencyConflict, TooManyKeys, UnexpectedPosition

pytestmark = pytest.mark.once

TTL = 250.0  # seconds; steps of time are hundreds, so that what the test itself takes matters to no message
SIZE, BYTES, MAX_KEYS, IDEMPOTENCY_KEYS = 7, 900, 3, 4
# What the stream keeps for processes that fell behind, small enough that a test gets beyond it.
KEEP, YOUNG, HEAVY, EVERY, MOST = 10, 60.0, 1200, 4, 8
GROUPS = ["a", "a:b"]


@dataclass
class Known:
    offset: int
    draft: Draft
    age: float = 0.0

    @property
    def weight(self) -> int:
        said = (self.draft.data, (self.draft.key or "").encode(), (self.draft.exclude or "").encode())
        return sum(map(len, said)) + OVERHEAD


@dataclass
class Model:
    """One group: everything that was ever published to it, and the rules applied to that from scratch."""

    epoch: str = ""
    published: list[Known] = field(default_factory=list)
    trimmed: int = 0
    values: dict[str | None, Known] = field(default_factory=dict)

    @property
    def position(self) -> Position:
        return Position(self.epoch, len(self.published))

    def publish(self, draft: Draft) -> None:
        known = Known(len(self.published) + 1, replace(draft, expected=None))
        self.published.append(known)
        self.values.pop(draft.key, None)
        self.values[draft.key] = known
        while len(self.values) > MAX_KEYS:
            del self.values[next(iter(self.values))]
        if known.offset % EVERY == 0 and (known.offset > KEEP or self.weight_from(1) > HEAVY):
            oldest = self.streamed()[:MOST]
            self.trimmed += next((count for count, each in enumerate(oldest) if not self.goes(each)), len(oldest))

    def goes(self, known: Known) -> bool:
        """Whether neither a process that fell behind nor a reader of history is to have it any more."""
        top, weight = len(self.published), self.weight_from(known.offset)
        if known.offset == top or (weight < HEAVY and (known.offset > top - KEEP or known.age < YOUNG)):
            return False
        return known.offset <= top - SIZE or weight > BYTES or known.age >= TTL

    def weight_from(self, offset: int) -> int:
        return sum(known.weight for known in self.published[offset - 1 :])

    def streamed(self) -> list[Known]:
        return self.published[self.trimmed :]

    def history(self) -> list[Known]:
        kept: list[Known] = []
        weight = 0
        for known in reversed(self.streamed()):
            weight += known.weight
            if len(kept) == SIZE or known.age >= TTL or (weight > BYTES and kept):
                break
            kept.append(known)
        return kept[::-1]


DRAFTS = st.builds(
    Draft,
    st.sampled_from(Kind),
    st.binary(max_size=5) | st.binary(max_size=5) | st.integers(0, 1000).map(bytes),
    st.sampled_from([None, None, "", "k", "ключ", "k\r\n"]),
    st.none(),
    st.sampled_from([None, None, "t", "-", "_a-Z9"]),
)
EXPECTED = st.sampled_from(["0", "here", "here", "before", "behind", "elsewhere", "epoch:0"])
OFFSETS = st.integers(0, 30)
LIMITS = st.integers(1, 12)
STEPS = st.one_of(
    st.tuples(st.just("publish"), DRAFTS),
    st.tuples(st.just("publish"), DRAFTS),
    st.tuples(st.just("publish_once"), DRAFTS, st.sampled_from("ijklm/"), st.none() | EXPECTED),
    st.tuples(st.just("publish_expected"), DRAFTS, EXPECTED),
    st.tuples(st.sampled_from(["read", "fetch", "last_values"]), OFFSETS, LIMITS),
    st.tuples(st.just("read_back"), st.none() | OFFSETS.filter(bool), LIMITS),
    st.tuples(st.just("grow_older"), st.sampled_from([100, 200])),
    st.tuples(st.just("trim"), st.integers(0, 4)),
    st.tuples(st.sampled_from(["attach", "check", "fork", "expire"])),
)
PLANS = st.lists(st.tuples(st.sampled_from(GROUPS), STEPS), max_size=60)
STARTS = st.lists(DRAFTS, max_size=12)


class World:
    """Does each step to the server and to the model, and compares what can be seen."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        bounds = {"history_size": SIZE, "history_bytes": BYTES, "history_ttl": TTL, "position_ttl": 10_000.0}
        last = {"join": Join.LAST, "max_keys": MAX_KEYS}
        self.store: Store = scene.store(**bounds, **last, idempotency_keys=IDEMPOTENCY_KEYS)
        self.models = {group: Model() for group in GROUPS}
        self.records: dict[tuple[str, str], tuple[Draft, Position]] = {}

    async def step(self, group: str, what: str, *how: object) -> None:
        await getattr(self, what)(group, *how)

    async def publish(self, group: str, draft: Draft) -> None:
        self.learn(group, (await self.store.publish(group, draft)).position)
        self.models[group].publish(draft)
        assert self.models[group].position == await self.store.position(group)

    async def publish_expected(self, group: str, draft: Draft, where: str) -> None:
        model, expected = self.models[group], self.expected(group, where)
        met = self.is_met(group, expected)
        try:
            await self.publish(group, replace(draft, expected=expected))
        except UnexpectedPosition as error:
            assert not met
            assert error.position == model.position == await self.store.position(group)
        else:
            assert met

    def expected(self, group: str, where: str) -> Position:
        at = self.models[group].position
        match where:
            case "here":
                return at
            case "before":
                return Position(at.epoch, at.offset - 1)
            case "behind":
                return Position(at.epoch, at.offset + 1)
            case "epoch:0":
                return Position(at.epoch or "any", 0)
            case "elsewhere":
                return Position("other", at.offset)
            case _:
                return Position("", 0)

    def is_met(self, group: str, expected: Position) -> bool:
        at = self.models[group].position
        return expected == at or (expected == Position("", 0) and at.offset == 0)

    async def read(self, group: str, after: int, limit: int) -> None:
        wanted = [known for known in self.models[group].history() if known.offset > after]
        self.compare(group, await self.store.read(group, after, limit), wanted[:limit])

    async def read_back(self, group: str, before: int | None, limit: int) -> None:
        wanted = [known for known in self.models[group].history() if before is None or known.offset < before]
        self.compare(group, await self.store.read_back(group, before, limit), wanted[::-1][:limit])

    async def fetch(self, group: str, after: int, limit: int) -> None:
        wanted = [known for known in self.models[group].streamed() if known.offset > after]
        self.compare(group, await self.store.fetch(group, after, limit), wanted[:limit])

    async def last_values(self, group: str, after: int, limit: int) -> None:
        wanted = [known for known in self.models[group].values.values() if known.offset > after]
        self.compare(group, await self.store.last_values(group, after, limit), wanted[:limit])

    async def grow_older(self, group: str, seconds: int) -> None:
        age(self.scene.node(group), group, seconds * 1000)
        for known in self.models[group].published:
            known.age += seconds

    async def trim(self, group: str, count: int) -> None:
        model = self.models[group]
        model.trimmed = min(model.trimmed + count, max(0, len(model.published) - 1))
        stream = KEYS.of(group).stream
        self.scene.node(group).admin.xtrim(stream, minid=f"{model.trimmed + 1}-0", approximate=False)

    async def attach(self, group: str) -> None:
        self.learn(group, (await self.store.attach(group)).position)
        assert self.models[group].position == await self.store.position(group)

    async def check(self, group: str) -> None:
        """A process that has what the server has, or has not come so far yet, is told so."""
        model, head = self.models[group], await self.store.attach(group)
        self.learn(group, head.position)
        assert await self.store.check(group, head) == Check(same=True, head=head)
        for offset in (0, model.trimmed):
            ours = Head(Position(model.epoch, offset), b"gone")
            assert await self.store.check(group, ours) == Check(
                same=offset < head.position.offset or not offset, head=head
            )

    async def expire(self, group: str) -> None:
        self.scene.node(group).admin.delete(KEYS.of(group).meta)
        self.models[group] = Model()

    async def publish_once(self, group: str, draft: Draft, key: str, where: str | None) -> None:
        model = self.models[group]
        first = self.records.get((group, key))
        expected = None if where is None else self.expected(group, where)
        met = expected is None or self.is_met(group, expected)
        try:
            once = replace(draft, idempotency_key=key, expected=expected)
            position = (await self.store.publish(group, once)).position
        except UnexpectedPosition:
            assert first is None
            assert not met
        except IdempotencyConflict:
            assert first is not None
            assert replace(first[0], exclude=draft.exclude) != draft
        except TooManyKeys:
            assert first is None
            assert sum(each == group for each, _ in self.records) >= IDEMPOTENCY_KEYS
        else:
            if first is None:
                assert met
                self.learn(group, position)
                model.publish(draft)
                assert position == model.position
                self.records[group, key] = (draft, position)
            known, first_position = self.records[group, key]
            assert (replace(known, exclude=draft.exclude), first_position) == (draft, position)

    async def fork(self, group: str) -> None:
        """What another process has is of a history that this server does not know."""
        model = self.models[group]
        before = await self.store.attach(group)
        self.learn(group, before.position)
        other = Position(before.position.epoch, before.position.offset + 1)
        check = await self.store.check(group, Head(other, b"lost"))
        assert (check.same, check.head.position.offset, check.head.id) == (False, other.offset - 1, before.id)
        assert check.head.position.epoch != model.epoch
        model.epoch = check.head.position.epoch

    def learn(self, group: str, position: Position) -> None:
        """A group that the model does not know has begun with any epoch."""
        model = self.models[group]
        if not model.epoch:
            assert all(position.epoch != other.epoch for other in self.models.values())
            model.epoch = position.epoch
        assert position.epoch == model.epoch

    def compare(self, group: str, page: Page, wanted: list[Known]) -> None:
        model = self.models[group]
        if not model.epoch:
            assert page == Page(Position("", 0), ())
            return
        assert page.position == model.position
        assert [(m.group, m.position, Draft(m.kind, m.data, m.key, exclude=m.exclude)) for m in page.messages] == [
            (group, Position(model.epoch, known.offset), known.draft) for known in wanted
        ]


def smaller(script: Script) -> Script:
    """Return the script with the bounds of the model."""
    source = script._source
    for name, theirs, ours in [(b"KEEP", b"1000", KEEP), (b"HEAVY", b"16 * 1024 * 1024", HEAVY)]:
        before = b"local %b = %b -- " % (name, theirs)
        assert source.count(before) == 1
        source = source.replace(before, b"local %b = %d -- " % (name, ours))
    made = Script(script.name)
    made._source, made._digest = source, sha1(source, usedforsecurity=False).hexdigest().encode()
    return made


@pytest.mark.parametrize("where", ["valkey", "valkey_cluster", "debian_redis"])
def test_a_group_on_a_server_does_whatever_a_plain_model_does(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "PUBLISH", smaller(scripts.PUBLISH))
    server: Server | Cluster = request.getfixturevalue(where)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STARTS, PLANS)
    def run(start: list[Draft], plan: list[tuple[str, tuple[str, ...]]]) -> None:
        async def main() -> None:
            async with scene_of(server) as scene:
                for node in scene.nodes:
                    node.admin.flushall()
                world = World(scene)
                for draft in start:
                    await world.publish(GROUPS[0], draft)
                for group, step in plan:
                    await world.step(group, *step)
                for node in scene.nodes:
                    assert [key for key in node.admin.keys("*") if node.admin.pttl(key) < 0] == []

        trio.run(main)

    run()
