"""Publishing with an idempotency key: once, whoever asks how often, and whatever becomes of the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from triocast import (
    Draft,
    IdempotencyConflict,
    InvalidGroupName,
    MessageTooLarge,
    NotRunning,
    Overloaded,
    Position,
    Receipt,
    Settings,
    TooManyKeys,
    TriocastError,
)
from triocast.connection import open_connection
from triocast.core.idempotency import REMEMBERED
from triocast.core.overflow import Policy
from triocast.engines import Audience, Published
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.idempotency import LONG
from triocast.testing import MemoryTransport, run_seeded


def draft(text: str = "one", key: str = "k") -> Draft:
    return Draft.of(text, idempotency_key=key)


class Door:
    """Publishers of one engine wait at it while it is shut, before their message has a position."""

    def __init__(self) -> None:
        self.refuse: list[Exception] = []
        self._opened = trio.Event()
        self._opened.set()

    def shut(self) -> None:
        if self._opened.is_set():
            self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        await self._opened.wait()
        if self.refuse:
            raise self.refuse.pop(0)


class GuardedEngine(MemoryEngine):
    """A memory engine with a door."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.door = Door()
        self.published: list[tuple[str | None, float]] = []

    async def publish(self, group: str, draft: Draft) -> Published:
        await self.door.pass_through()
        published = await super().publish(group, draft)
        self.published.append((draft.idempotency_key, trio.current_time()))
        return published


@dataclass
class Stage:
    hub: Hub
    engine: GuardedEngine
    nursery: trio.Nursery

    async def member(self, group: str = "g") -> MemoryTransport:
        transport = MemoryTransport()
        await self.nursery.start(self._serve, transport, group)
        return transport

    async def _serve(self, transport: MemoryTransport, group: str, task_status: trio.TaskStatus[None]) -> None:
        async with open_connection(self.hub, transport, [group]):
            task_status.started()
            await trio.sleep_forever()

    async def published(self, group: str = "g") -> int:
        return (await self.engine.position(group)).offset

    def numbers(self) -> tuple[int, int]:
        traffic = self.hub.meters.of("g")
        return traffic.published, traffic.repeated


async def make(nursery: trio.Nursery, **values: object) -> Stage:
    settings = Settings(**values)  # type: ignore[arg-type]
    engine = GuardedEngine(settings)
    hub = Hub(settings, engine)
    await nursery.start(hub.run)
    return Stage(hub, engine, nursery)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return await make(nursery)


class Call:
    """A publish in a task of its own, and what came of it."""

    def __init__(self, stage: Stage, what: Draft, group: str = "g") -> None:
        self.result: Receipt | BaseException | None = None
        self._scope = trio.CancelScope()
        stage.nursery.start_soon(self._run, stage.hub, what, group)

    async def _run(self, hub: Hub, what: Draft, group: str) -> None:
        with self._scope:
            try:
                self.result = await hub.publish(group, what)
            except TriocastError as error:
                self.result = error
            except trio.Cancelled as error:
                self.result = error
                raise

    def cancel(self) -> None:
        self._scope.cancel()


async def test_a_repeat_publishes_nothing_and_gets_the_first_receipt(stage: Stage) -> None:
    client = await stage.member()
    first = await stage.hub.publish("g", draft())
    assert (first.offset, first.subscribers, first.repeated) == (1, 1, False)
    await stage.member()
    await stage.hub.publish("g", Draft.of("between"))
    assert await stage.hub.publish("g", draft()) == replace(first, repeated=True)
    await trio.testing.wait_all_tasks_blocked()
    assert [message.data for message in client.received] == [b"one", b"between"]  # type: ignore[union-attr]
    assert stage.numbers() == (2, 1)


async def test_without_members_it_is_the_same(stage: Stage) -> None:
    first = await stage.hub.publish("g", draft())
    assert await stage.hub.publish("g", draft()) == replace(first, repeated=True)
    assert await stage.published() == 1


async def test_a_key_is_good_for_another_message_once_its_time_is_over(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    await stage.hub.publish("g", draft())
    await trio.sleep(REMEMBERED - 1)
    with pytest.raises(IdempotencyConflict):
        await stage.hub.publish("g", draft("other"))
    await trio.sleep(1)
    receipt = await stage.hub.publish("g", draft("other"))
    assert (receipt.offset, receipt.repeated) == (2, False)


async def test_memory_of_keys_is_given_back_when_nobody_publishes_any_more(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    for count in range(2500):
        await stage.hub.publish("g", draft(key=str(count)))
    assert stage.hub.idempotency_keys == 2500
    await trio.sleep(REMEMBERED + 1.5)
    assert stage.hub.idempotency_keys == 0


async def test_a_repeat_waits_for_the_first(stage: Stage) -> None:
    stage.engine.door.shut()
    first, repeat = Call(stage, draft()), Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    assert (first.result, repeat.result) == (None, None)
    stage.engine.door.open()
    await trio.testing.wait_all_tasks_blocked()
    receipts = [first.result, repeat.result]
    assert all(isinstance(each, Receipt) and each.offset == 1 for each in receipts)
    assert sorted(each.repeated for each in receipts if isinstance(each, Receipt)) == [False, True]
    assert await stage.published() == 1


async def test_another_message_does_not_wait_for_the_first_to_be_refused(stage: Stage) -> None:
    stage.engine.door.shut()
    Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    for other in (draft("other"), Draft(draft().kind, b"one", "EUR", "k"), Draft.of(b"one", idempotency_key="k")):
        with pytest.raises(IdempotencyConflict):
            await stage.hub.publish("g", other)
    stage.engine.door.open()


async def test_of_those_who_wait_one_becomes_the_first_when_that_is_refused(stage: Stage) -> None:
    stage.engine.door.shut()
    stage.engine.door.refuse = [Overloaded("too much")]
    first = Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    repeats = [Call(stage, draft()) for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    stage.engine.door.open()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(first.result, Overloaded)
    receipts = [repeat.result for repeat in repeats]
    assert all(isinstance(each, Receipt) and each.offset == 1 for each in receipts)
    assert sorted(each.repeated for each in receipts if isinstance(each, Receipt)) == [False, True, True]
    assert stage.numbers() == (1, 2)


async def test_of_those_who_wait_one_becomes_the_first_when_that_is_cancelled(stage: Stage) -> None:
    stage.engine.door.shut()
    first = Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    gone, repeat = Call(stage, draft()), Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    gone.cancel()
    first.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert stage.hub.idempotency_keys == 1
    stage.engine.door.open()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(first.result, trio.Cancelled)
    assert isinstance(repeat.result, Receipt)
    assert not repeat.result.repeated
    assert await stage.published() == 1


@pytest.mark.parametrize(
    ("group", "what", "error"),
    [("g", draft("x" * 11), MessageTooLarge), ("a b", draft(), InvalidGroupName)],
)
async def test_a_refusal_is_not_remembered(
    nursery: trio.Nursery, autojump_clock: object, group: str, what: Draft, error: type[Exception]
) -> None:
    stage = await make(nursery, max_message=10, max_lag_bytes=1000)
    with pytest.raises(error):
        await stage.hub.publish(group, what)
    assert stage.hub.idempotency_keys == 0
    assert (await stage.hub.publish("g", draft())).offset == 1


async def test_who_waits_at_the_gate_of_a_group_that_blocks_is_not_remembered_when_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stage = await make(nursery, policy=Policy.BLOCK, max_lag=1, block_timeout=1.0)
    client = await stage.member()
    client.stall()
    await stage.hub.publish("g", Draft.of("before"))
    with pytest.raises(Overloaded):
        await stage.hub.publish("g", draft())
    client.resume()
    await trio.testing.wait_all_tasks_blocked()
    receipt = await stage.hub.publish("g", draft())
    assert (receipt.offset, receipt.repeated) == (2, False)


async def test_when_the_first_is_cancelled_after_the_publish_the_repeat_gets_its_receipt(stage: Stage) -> None:
    await stage.member()
    first = Call(stage, draft())
    while await stage.published() == 0:
        await trio.lowlevel.checkpoint()
    first.cancel()
    repeat = await stage.hub.publish("g", draft())
    assert (repeat.offset, repeat.subscribers, repeat.repeated) == (1, 1, True)
    assert await stage.published() == 1


class LateEngine(GuardedEngine):
    """Delivers when told to: a publish has its position long before its group has the message."""

    at_once = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.late = trio.Event()

    async def fetch(self, group: str, after: int, limit: int):  # type: ignore[no-untyped-def]
        await self.late.wait()
        return await super().fetch(group, after, limit)

    async def publish(self, group: str, draft: Draft) -> Published:
        inbox = self._inboxes.pop(group)  # the memory engine thinks that nobody is there
        try:
            return await super().publish(group, draft)
        finally:
            self._idle.pop(group, None)
            self._inboxes[group] = inbox


async def late_stage(nursery: trio.Nursery) -> tuple[Stage, LateEngine]:
    settings = Settings()
    engine = LateEngine(settings)
    hub = Hub(settings, engine)
    await nursery.start(hub.run)
    stage = Stage(hub, engine, nursery)
    await stage.member()
    return stage, engine


async def test_the_receipt_of_a_cancelled_first_is_what_it_would_have_been_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stage, engine = await late_stage(nursery)
    first = Call(stage, draft())
    await trio.testing.wait_all_tasks_blocked()
    assert await stage.published() == 1
    first.cancel()
    await trio.testing.wait_all_tasks_blocked()
    engine.late.set()
    await trio.sleep(5)  # the message is fetched, with one member there
    await stage.member()
    repeat = await stage.hub.publish("g", draft())
    assert (repeat.offset, repeat.subscribers, repeat.repeated) == (1, 1, True)


@pytest.mark.parametrize("seed", range(8))
def test_who_waits_for_the_receipt_may_come_and_go_and_leaves_nothing(seed: int) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            stage, engine = await late_stage(nursery)
            engine.late.set()
            await stage.hub.publish("g", Draft.of("before"))
            await trio.testing.wait_all_tasks_blocked()
            engine.late = trio.Event()
            tasks = trio.lowlevel.current_statistics().tasks_living
            calls = [Call(stage, draft()) for _ in range(6)]
            await trio.testing.wait_all_tasks_blocked()
            for call in calls[:5]:
                call.cancel()
                await trio.testing.wait_all_tasks_blocked()
            engine.late.set()
            await trio.sleep(5)
            staying = calls[5].result
            assert isinstance(staying, Receipt)
            assert (staying.offset, staying.subscribers) == (2, 1)
            assert await stage.published() == 2
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            nursery.cancel_scope.cancel()

    run_seeded(main, seed=seed)


async def test_a_receipt_that_comes_after_the_key_has_expired_is_still_the_repeats(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stage, engine = await late_stage(nursery)
    calls = [Call(stage, draft()) for _ in range(2)]
    await trio.sleep(REMEMBERED + 10)
    assert stage.hub.idempotency_keys == 0
    engine.late.set()
    await trio.sleep(5)
    assert [isinstance(call.result, Receipt) and call.result.offset for call in calls] == [1, 1]
    assert await stage.published() == 1


async def test_a_key_too_many_is_refused_and_works_when_there_is_room_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stage = await make(nursery, idempotency_keys=2)
    first = await stage.hub.publish("g", draft(key="1"))
    await trio.sleep(10)
    await stage.hub.publish("g", draft(key="2"))
    with pytest.raises(TooManyKeys):
        await stage.hub.publish("g", draft(key="3"))
    assert await stage.hub.publish("g", draft(key="1")) == replace(first, repeated=True)
    assert (await stage.hub.publish("g", Draft.of("without a key"))).offset == 3
    await trio.sleep(REMEMBERED - 10)
    assert (await stage.hub.publish("g", draft(key="3"))).offset == 4


async def test_long_messages_are_told_apart_too(stage: Stage) -> None:
    await stage.hub.publish("g", draft("x" * (LONG + 1)))
    assert (await stage.hub.publish("g", draft("x" * (LONG + 1)))).repeated
    with pytest.raises(IdempotencyConflict):
        await stage.hub.publish("g", draft("x" * LONG + "y"))


async def test_a_post_is_done_once_too(stage: Stage) -> None:
    position = await stage.hub.post("g", draft())
    assert await stage.hub.post("g", draft()) == position == Position(position.epoch, 1)
    assert await stage.published() == 1


async def test_a_hub_that_does_not_run_says_so(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings()
    with pytest.raises(NotRunning):
        await Hub(settings, MemoryEngine(settings)).publish("g", draft())


async def test_a_hub_that_was_stopped_answers_no_repeat_until_it_runs_again(stage: Stage) -> None:
    first = await stage.hub.publish("g", draft())
    stage.hub.stop()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(NotRunning):
        await stage.hub.publish("g", draft())
    await stage.nursery.start(stage.hub.run)
    assert await stage.hub.publish("g", draft()) == replace(first, repeated=True)


@pytest.mark.parametrize("seed", range(12))
def test_a_first_that_goes_with_its_hub_goes_as_it_was_told_to(seed: int) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            stage, engine = await late_stage(nursery)
            first = Call(stage, draft())
            await trio.testing.wait_all_tasks_blocked()
            stage.hub.stop()
            for _ in range(seed % 4):
                await trio.lowlevel.checkpoint()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(first.result, trio.Cancelled | Receipt)
            engine.late.set()
            await nursery.start(stage.hub.run)
            receipt = await stage.hub.publish("g", draft())
            assert (receipt.offset, receipt.repeated) == (1, True)
            nursery.cancel_scope.cancel()

    run_seeded(main, seed=seed)


class RememberingEngine(MemoryEngine):
    """Knows repeats by itself, as an engine of many processes does."""

    remembers = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.told: dict[str | None, Published] = {}

    async def publish(self, group: str, draft: Draft) -> Published:
        if draft.idempotency_key in self.told:
            await trio.lowlevel.checkpoint()
            return replace(self.told[draft.idempotency_key], repeated=True)
        published = replace(await super().publish(group, draft), audience=Audience(7, 2))
        self.told[draft.idempotency_key] = published
        return published


async def test_an_engine_that_remembers_is_asked_itself(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    settings = Settings()
    hub = Hub(settings, RememberingEngine(settings))
    await nursery.start(hub.run)
    first = await hub.publish("g", draft())
    assert first == Receipt("g", first.epoch, 1, 7, 2, approximate=True)
    assert await hub.publish("g", draft()) == replace(first, repeated=True)
    assert hub.idempotency_keys == 0
    traffic = hub.meters.of("g")
    assert (traffic.published, traffic.repeated) == (1, 1)


# Against a model: what is published, and what everybody is told, whatever is refused, cancelled or forgotten when


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish", "publish", "cancel", "shut", "open", "refuse", "turn", "sleep"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["one", "one", "two"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(deadline=None)  # hours on the virtual clock take their time
@given(MOVES, st.integers(0, 3), st.booleans())
def test_each_key_is_published_once_in_its_time(
    moves: list[tuple[str, str, str, int]], seed: int, member: bool
) -> None:
    run_seeded(play, moves, member, seed=seed)


async def play(moves: list[tuple[str, str, str, int]], member: bool) -> None:
    async with trio.open_nursery() as nursery:
        stage = await make(nursery, history_ttl=10_000.0)
        if member:
            await stage.member()
        calls: list[tuple[str, str, Call]] = []
        for move, key, text, number in moves:
            if move == "publish":
                calls.append((key, text, Call(stage, draft(text, key))))
            elif move == "cancel" and calls:
                calls[number % len(calls)][2].cancel()
            else:
                await happen(stage, move, number)
        stage.engine.door.open()
        await trio.testing.wait_all_tasks_blocked()
        await check(stage, calls)
        nursery.cancel_scope.cancel()


async def happen(stage: Stage, move: str, number: int) -> None:
    match move:
        case "shut":
            stage.engine.door.shut()
        case "open":
            stage.engine.door.open()
        case "refuse":
            stage.engine.door.refuse.append(Overloaded("refused"))
        case "turn":
            for _ in range(number):
                await trio.lowlevel.checkpoint()
        case "sleep":
            await trio.sleep(number * 75)


async def check(stage: Stage, calls: list[tuple[str, str, Call]]) -> None:
    page = await stage.engine.read("g", 0, 1000)
    assert stage.numbers()[0] == len(page.messages)
    told: dict[int, list[tuple[str, str, Receipt]]] = {}
    for key, text, call in calls:
        assert call.result is not None, "somebody waits for ever"
        if isinstance(call.result, Receipt):
            told.setdefault(call.result.offset, []).append((key, text, call.result))
        else:
            assert isinstance(call.result, trio.Cancelled | Overloaded | IdempotencyConflict)
    # Of one message, all were told the same, and at most one of them that it was the first.
    for offset, each in told.items():
        assert {(key, text) for key, text, _ in each} == {(each[0][0], page.messages[offset - 1].data.decode())}
        assert len({replace(receipt, repeated=False) for *_, receipt in each}) == 1
        assert sum(not receipt.repeated for *_, receipt in each) <= 1
    assert stage.numbers()[1] >= sum(receipt.repeated for each in told.values() for *_, receipt in each)
    # Nobody was turned away for a key that nobody else used with another message.
    for key, text, call in calls:
        if isinstance(call.result, IdempotencyConflict):
            assert any(other != text for name, other, _ in calls if name == key)
    for key in "ab":
        times = [time for name, time in stage.engine.published if name == key]
        assert all(later - time >= REMEMBERED for time, later in pairwise(times))
