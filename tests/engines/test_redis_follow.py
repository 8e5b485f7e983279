"""What is made of what a server tells about one group, in whatever order it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.redis_engines import KEYS
from triocast.core.message import Position
from triocast.engines.redis.follow import Follow
from triocast.engines.redis.store import Head
from triocast.errors import EngineUnavailable
from triocast.inbox import Inbox, Item, Message, Recall, Renewal


def told(epoch: str, offset: int) -> bytes:
    return b"%b %d id%d t 0 -1 data" % (epoch.encode(), offset, offset)


def head(epoch: str, offset: int) -> Head:
    return Head(Position(epoch, offset), b"id%d" % offset if offset else b"")


def new_follow(*, at: Head | None = None, size: int = 100) -> Follow:
    follow = Follow("g", KEYS.of("g"), Inbox(size))
    if at is not None:
        follow.stands(at)
    return follow


def taken(follow: Follow) -> list[tuple[str, int] | str]:
    def short(item: Item) -> tuple[str, int] | str:
        match item:
            case Message():
                return item.epoch, item.offset
            case Recall():
                return f"up to {item.offset}"
            case Renewal():
                return f"anew at {item.position}"

    return [short(item) for item in follow.inbox.take_nowait()]


async def test_messages_are_offered_once_each_and_in_order() -> None:
    follow = new_follow(at=head("a", 5))
    for offset in (4, 5, 6, 7, 6, 7, 9):
        follow.told(told("a", offset))
    assert taken(follow) == [("a", 6), ("a", 7), ("a", 9)]
    assert (follow.head, follow.known) == (Position("a", 9), b"id9")


async def test_what_was_told_before_the_head_was_known_is_fetched() -> None:
    follow = new_follow()
    for offset in (4, 5, 6):
        follow.told(told("a", offset))
    follow.stands(head("a", 4))
    assert follow.head == Position("a", 4)
    assert taken(follow) == ["up to 6"]


async def test_what_was_told_before_the_head_was_known_and_is_covered_by_it_is_not() -> None:
    follow = new_follow()
    follow.told(told("a", 4))
    follow.told(b"!b 4")
    follow.stands(head("a", 4))
    assert taken(follow) == []


async def test_what_was_missed_is_fetched() -> None:
    follow = new_follow(at=head("a", 5))
    follow.stands(head("a", 8))
    follow.told(told("a", 8))
    follow.told(told("a", 9))
    assert taken(follow) == ["up to 8", ("a", 9)]


async def test_an_answer_that_messages_have_overtaken_changes_nothing() -> None:
    follow = new_follow(at=head("a", 5))
    follow.told(told("a", 6))
    follow.stands(head("a", 5))
    assert taken(follow) == [("a", 6)]
    assert (follow.head, follow.known) == (Position("a", 6), b"id6")


@pytest.mark.parametrize("first", ["the answer", "the channel"])
async def test_a_new_epoch_is_told_once_whoever_tells_it_first(first: str) -> None:
    follow = new_follow(at=head("a", 5))
    if first == "the answer":
        follow.stands(head("b", 4))
        assert follow.known == b"id4"
        follow.told(b"!b 4")
    else:
        follow.told(b"!b 4")
        assert follow.known is None
        follow.stands(head("b", 4))
        assert follow.known == b"id4"
    follow.told(told("b", 5))
    assert taken(follow) == ["anew at b:4", ("b", 5)]


async def test_a_message_of_another_epoch_brings_it_with_it() -> None:
    follow = new_follow(at=head("a", 5))
    follow.told(told("b", 1))
    follow.told(told("b", 2))
    assert taken(follow) == ["anew at b:0", ("b", 1), ("b", 2)]


async def test_an_old_epoch_does_not_come_back_with_a_late_message_or_answer() -> None:
    follow = new_follow(at=head("a", 5))
    follow.stands(head("b", 4))
    follow.told(told("a", 6))
    follow.told(b"!a 6")
    follow.stands(head("a", 6))
    assert taken(follow) == ["anew at b:4"]
    assert follow.head == Position("b", 4)


async def test_what_is_foreign_is_let_go() -> None:
    follow = new_follow(at=head("a", 5))
    for payload in (b"", b"!", b"!a", b"!a x", b"hello", b"a 6 id q 0 -1 x", b"a x id t 0 -1 x", b"\xff 6 id t 0 -1 x"):
        follow.told(payload)
    assert taken(follow) == []


async def test_a_full_inbox_has_the_rest_fetched() -> None:
    follow = new_follow(at=head("a", 0), size=2)
    for offset in range(1, 10):
        follow.told(told("a", offset))
    assert taken(follow) == [("a", 1), ("a", 2), "up to 9"]


async def test_who_waits_for_a_head_that_can_t_be_had_is_told_why() -> None:
    follow = new_follow()
    error = EngineUnavailable("no")
    follow.fail(error)
    assert follow.ready.is_set()
    assert follow.failure is error
    settled = new_follow(at=head("a", 1))
    settled.fail(error)
    assert settled.failure is None


@given(st.lists(st.tuples(st.sampled_from(["told", "stands"]), st.integers(1, 30)), max_size=40))
async def test_nothing_up_to_the_head_is_neither_offered_nor_fetched(steps: list[tuple[str, int]]) -> None:
    """Whatever overtakes what: the group can have every offset from its first to the newest that was heard of."""
    follow = new_follow(at=head("a", 0), size=5)
    newest = 0
    for what, offset in steps:
        if what == "told":
            follow.told(told("a", offset))
        else:
            follow.stands(head("a", offset))
        newest = max(newest, offset)
    # The group fetches what is missing before a message it is given, and up to what it is asked to fetch.
    reached = [item.offset for item in follow.inbox.take_nowait() if isinstance(item, Message | Recall)]
    assert max(reached, default=0) == newest
    assert follow.head == Position("a", newest)
