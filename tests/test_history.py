"""Pages of history: every message kept comes once, and what is missing is named, whichever way it is read."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from quart_trio import QuartTrio

from triocast import (
    Draft,
    Gap,
    GapReason,
    GroupSettings,
    History,
    InvalidGroupName,
    InvalidPosition,
    NotRunning,
    Position,
    Settings,
    Triocast,
)
from triocast.core.recovery import OLDEST
from triocast.engines.memory import MemoryEngine
from triocast.history import MAX_PAGE, PAGE_WEIGHT, read_history
from triocast.hub import Hub
from triocast.testing import simulate


async def filled(count: int, **values: object) -> MemoryEngine:
    """Return an engine with `count` messages in the group `g`, whose epoch is e."""
    epochs = iter("efg")
    engine = MemoryEngine(Settings(**values), new_epoch=lambda: next(epochs))  # type: ignore[arg-type]
    for number in range(1, count + 1):
        await engine.publish("g", Draft.of(number))
    return engine


async def read(
    engine: MemoryEngine, since: Position | None = None, limit: int = 100, *, reverse: bool = False
) -> History:
    return await read_history(engine, "g", since, limit, reverse=reverse)


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def offsets(page: History) -> list[int]:
    return [message.offset for message in page.messages]


def lost(first: int, last: int) -> Gap:
    return Gap("g", "e", first, last, GapReason.LOST)


# Oldest first


async def test_a_page_has_what_follows_a_position_oldest_first() -> None:
    page = await read(await filled(5), at(2))
    assert page == History("g", at(5), page.messages)
    assert offsets(page) == [3, 4, 5]


@pytest.mark.parametrize("since", [None, OLDEST])
async def test_without_a_position_it_begins_at_the_oldest_kept_and_nothing_is_missing(since: Position | None) -> None:
    page = await read(await filled(5, history_size=3), since)
    assert (offsets(page), page.gap, page.next) == ([3, 4, 5], None, None)


async def test_who_has_all_gets_an_empty_page_and_nothing_is_missing() -> None:
    assert await read(await filled(5), at(5)) == History("g", at(5), ())


async def test_a_full_page_says_where_to_continue_and_the_last_one_that_it_is_all() -> None:
    engine = await filled(6)
    first = await read(engine, limit=3)
    assert (offsets(first), first.next) == ([1, 2, 3], at(3))
    last = await read(engine, first.next, limit=3)
    assert (offsets(last), last.next) == ([4, 5, 6], None)


async def test_what_followed_the_position_and_is_not_kept_is_a_gap() -> None:
    page = await read(await filled(10, history_size=3), at(4))
    assert (offsets(page), page.gap, page.next) == ([8, 9, 10], lost(5, 7), None)


async def test_with_nothing_kept_the_gap_is_all_there_is() -> None:
    engine = await filled(10, history_size=0)
    assert await read(engine, at(4)) == History("g", at(10), (), lost(5, 10))
    assert await read(engine, at(0)) == History("g", at(10), (), lost(1, 10))
    assert await read(engine, at(10)) == History("g", at(10), ())
    assert await read(engine) == History("g", at(10), ())


async def test_what_expires_between_two_pages_is_a_gap_on_the_second(autojump_clock: trio.testing.MockClock) -> None:
    engine = await filled(4, history_ttl=10.0)
    first = await read(engine, limit=2)
    assert first.next == at(2)
    await trio.sleep(11)
    await engine.publish("g", Draft.of("new"))
    second = await read(engine, first.next, limit=2)
    assert (offsets(second), second.gap, second.next) == ([5], lost(3, 4), None)


async def test_of_another_history_all_that_is_kept_follows_and_the_gap_names_both_epochs() -> None:
    page = await read(await filled(5, history_size=3), at(100, "old"))
    assert offsets(page) == [3, 4, 5]
    assert page.gap == Gap("g", "e", 1, 2, GapReason.EPOCH, before="old")
    whole = await read(await filled(5), at(2, "old"), limit=2)
    assert (offsets(whole), whole.next) == ([1, 2], at(2))
    assert whole.gap == Gap("g", "e", 1, 0, GapReason.EPOCH, before="old")


async def test_a_position_that_the_group_has_not_reached_is_of_another_history_too() -> None:
    page = await read(await filled(3), at(4))
    assert (offsets(page), page.gap) == ([1, 2, 3], Gap("g", "e", 1, 0, GapReason.EPOCH, before="e"))


async def test_a_group_that_nobody_knows_is_an_empty_page_with_no_epoch() -> None:
    nowhere = Position("", 0)
    assert await read(await filled(0)) == History("g", nowhere, ())
    assert await read(await filled(0), reverse=True) == History("g", nowhere, ())
    gone = Gap("g", "", 1, 0, GapReason.EPOCH, before="e")
    assert await read(await filled(0), at(7)) == History("g", nowhere, (), gone)
    assert await read(await filled(0), at(7), reverse=True) == History("g", nowhere, (), gone)


# Newest first


async def test_in_reverse_it_begins_at_the_newest_and_ends_at_the_first_ever() -> None:
    page = await read(await filled(3), reverse=True)
    assert page == History("g", at(3), page.messages)
    assert offsets(page) == [3, 2, 1]


async def test_in_reverse_a_page_has_what_comes_before_the_position() -> None:
    engine = await filled(5)
    first = await read(engine, at(5), 2, reverse=True)
    assert (offsets(first), first.gap, first.next) == ([4, 3], None, at(3))
    last = await read(engine, first.next, 2, reverse=True)
    assert (offsets(last), last.gap, last.next) == ([2, 1], None, None)


async def test_in_reverse_the_last_page_names_what_is_older_and_not_kept() -> None:
    engine = await filled(10, history_size=4)
    first = await read(engine, None, 2, reverse=True)
    assert (offsets(first), first.gap, first.next) == ([10, 9], None, at(9))
    last = await read(engine, first.next, 2, reverse=True)
    assert (offsets(last), last.gap, last.next) == ([8, 7], lost(1, 6), None)
    assert await read(engine, at(7), 2, reverse=True) == History("g", at(10), (), lost(1, 6))
    assert await read(engine, at(3), 2, reverse=True) == History("g", at(10), (), lost(1, 2))


@pytest.mark.parametrize("offset", [0, 1])
async def test_nothing_comes_before_the_first_message(offset: int) -> None:
    assert await read(await filled(3), at(offset), reverse=True) == History("g", at(3), ())


async def test_in_reverse_a_position_beyond_the_newest_is_before_nothing_missing() -> None:
    page = await read(await filled(3), at(100), reverse=True)
    assert (offsets(page), page.gap, page.next) == ([3, 2, 1], None, None)


async def test_nothing_that_is_kept_comes_before_a_position_of_an_earlier_history() -> None:
    page = await read(await filled(3), at(2, "old"), reverse=True)
    assert page == History("g", at(3), (), Gap("g", "e", 1, 0, GapReason.EPOCH, before="old"))


async def test_before_the_oldest_kept_is_no_place_to_begin() -> None:
    with pytest.raises(InvalidPosition, match="leave since out"):
        await read(await filled(3), OLDEST, reverse=True)


# Bounds


@pytest.mark.parametrize("limit", [-1, 0, MAX_PAGE + 1])
async def test_a_page_of_nothing_and_one_without_bounds_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        await read(await filled(1), limit=limit)


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_ends_where_it_would_be_too_heavy_and_has_one_message_at_least(*, reverse: bool) -> None:
    engine = await filled(0, history_bytes=10 * PAGE_WEIGHT)
    sizes = [PAGE_WEIGHT // 3] * 4 + [2 * PAGE_WEIGHT] + [1, 1]
    for size in reversed(sizes) if reverse else sizes:
        await engine.publish("g", Draft.of(bytes(size)))
    pages, since = [], None
    while not pages or since is not None:
        page = await read(engine, since, reverse=reverse)
        pages.append([len(message.data) for message in page.messages])
        since = page.next
    assert pages == [sizes[:2], sizes[2:4], sizes[4:5], sizes[5:]]


# Any history, any page, and messages that are published while it is read


@given(
    published=st.integers(0, 30),
    kept=st.integers(0, 30),
    since=st.none() | st.integers(0, 35),
    limit=st.integers(1, 12),
    meanwhile=st.lists(st.integers(0, 8), max_size=10),
    reverse=st.booleans(),
)
def test_pages_and_gaps_together_name_every_offset_once(
    published: int, kept: int, since: int | None, limit: int, meanwhile: list[int], *, reverse: bool
) -> None:
    known = since if published else None
    top = published

    async def collect() -> list[int]:
        nonlocal top
        engine = await filled(published, history_size=kept)
        position = None if known is None else at(known)
        told: list[int] = []
        while True:
            page = await read(engine, position, limit, reverse=reverse)
            missing = [] if page.gap is None else list(range(page.gap.first, page.gap.last + 1))
            told += [*offsets(page), *reversed(missing)] if reverse else [*missing, *offsets(page)]
            assert len(page.messages) <= limit
            assert page.position.offset == top
            assert not missing or missing[-1] <= top - kept
            position = page.next
            if position is None:
                return told
            for _ in range(meanwhile.pop() if meanwhile else 0):
                await engine.publish("g", Draft.of("meanwhile"))
                top += 1

    told = trio.run(collect)
    if reverse:
        assert told == list(range(published if known is None else min(known - 1, published), 0, -1))
    elif known is None:
        assert told == list(range(max(1, published - kept + 1), top + 1))
    else:  # a position that was not reached is of another history
        assert told == list(range(known + 1 if known <= published else 1, top + 1))


# In code


async def test_an_application_reads_the_history_of_its_groups() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, Settings(namespaces={"log": GroupSettings(history_size=3)}), harden=False)
    async with simulate(app):
        group = push.group("log:a")
        positions = [Position(receipt.epoch, receipt.offset) for receipt in [await group.send(n) for n in range(5)]]
        page = await group.history()
        assert [message.data for message in page.messages] == [b"2", b"3", b"4"]
        assert page.position == positions[-1]
        assert page.messages[0].position == positions[2]
        assert await group.history(since=positions[3]) == await group.history(since=str(positions[3]))
        assert await group.history(since="0") == page
        newest = await group.history(limit=1, reverse=True)
        assert (offsets(newest), newest.next) == ([5], positions[-1])
        with pytest.raises(InvalidPosition):
            await group.history(since="5")
        with pytest.raises(InvalidPosition):
            await group.history(since="0", reverse=True)


async def test_reading_makes_no_group_and_needs_a_running_application(nursery: trio.Nursery) -> None:
    settings = Settings()
    engine = MemoryEngine(settings)
    hub = Hub(settings, engine)
    with pytest.raises(NotRunning):
        await hub.history("g")
    await nursery.start(hub.run)
    with pytest.raises(InvalidGroupName):
        await hub.history("a b")
    await hub.history("g")
    await hub.history("g", reverse=True)
    assert hub.groups == 0
    assert repr(engine).startswith("<MemoryEngine 0 groups")
