"""A group's second log: its bounds, what a laggard is given of it, and that no event is more than one write."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from triocast.core.identity import MAX_INFO, MAX_USER, Identity
from triocast.core.presence import Changes, Departed, Entered, Member, Moved, Reason
from triocast.core.presence_log import EVENT_WEIGHT, KEPT, KEPT_WEIGHT, PresenceLog, told, weight_of
from triocast.core.wire import JSON, Presence
from triocast.core.wire.sse import SSE

ONE_WRITE = 64 * 1024
GROUP = "g" * 255


def event(number: int, size: int = 0) -> Presence:
    info = b'{"x":"%b"}' % (b"x" * size) if size else None
    return Presence("g", [Member(f"c{number}", Identity(None, info, claimed=bool(info)))])


def clients(events: list[Presence]) -> list[str]:
    return [member.client for each in events for member in each.joined]


def test_who_keeps_up_is_given_the_event_itself() -> None:
    log, one = PresenceLog(), event(1)
    assert log.read("g", 0) == ([], 0)
    log.append(one)
    assert log.read("g", 0) == ([one], 1)
    assert log.read("g", 1) == ([], 1)


def test_a_laggard_is_given_several_as_one() -> None:
    log = PresenceLog()
    for number in range(1, 4):
        log.append(event(number))
    log.append(Presence("g", left=[("c2", Reason.LEFT)]))
    (one,), top = log.read("g", 0)
    assert (clients([one]), one.left, top) == (["c1", "c3"], [("c2", Reason.LEFT)], 4)


def test_who_is_new_or_too_far_behind_is_to_ask() -> None:
    log = PresenceLog()
    assert [each.reset for each in log.read("g", -1)[0]] == [True]
    for number in range(KEPT):
        log.append(event(number))
    assert not log.read("g", 0)[0][0].reset
    log.append(event(KEPT))
    events, top = log.read("g", 0)
    assert [each.reset for each in events] == [True]
    assert top == log.top == KEPT + 1
    assert log.read("g", top) == ([], top)


def test_what_everybody_has_is_kept_for_nobody() -> None:
    log = PresenceLog()
    log.append(event(1))
    log.clear()
    assert log.read("g", 1) == ([], 1)
    assert log.read("g", -1)[0][0].reset
    log.append(event(2))
    assert clients(log.read("g", 1)[0]) == ["c2"]
    assert log.read("g", 0)[0][0].reset


def test_a_reset_is_told_first_and_what_was_before_it_not_at_all() -> None:
    log = PresenceLog()
    log.append(event(1))
    log.append(Presence("g", reset=True))
    log.append(event(2))
    events, _ = log.read("g", 0)
    assert [each.reset for each in events] == [True, False]
    assert clients(events) == ["c2"]


@given(st.lists(st.integers(0, MAX_INFO), max_size=400))
def test_its_events_are_bounded_by_number_and_by_weight(sizes: list[int]) -> None:
    log = PresenceLog()
    for number, size in enumerate(sizes):
        log.append(event(number, size))
        assert len(log) <= KEPT
        assert sum(weight_of(each) for each, _ in log._events) == log._weight <= KEPT_WEIGHT


@given(st.lists(st.tuples(st.integers(0, MAX_INFO), st.booleans()), max_size=120), st.integers(0, 120))
def test_a_reader_is_given_everything_once_in_pieces_of_one_write(sizes: list[tuple[int, bool]], first: int) -> None:
    log = PresenceLog()
    expected: list[str] = []
    cursor = min(first, len(sizes), KEPT // 2)
    got: list[str] = []
    for number, (size, reads) in enumerate(sizes):
        log.append(event(number, size // 4))
        expected += [f"c{number}"] if number >= cursor else []
        if reads and log.top > cursor:
            events, cursor = log.read("g", cursor)
            if any(each.reset for each in events):
                got, expected = [], []
            assert sum(map(weight_of, events)) <= EVENT_WEIGHT
            got += clients(events)
    while cursor < log.top:
        events, cursor = log.read("g", cursor)
        if any(each.reset for each in events):
            got, expected = [], []
        got += clients(events)
    assert got == expected


# The largest members that there can be: names of characters of four bytes, or that JSON escapes

NAMES = st.one_of(
    st.none(),
    st.sampled_from('a"\\é😀\u2028').map(lambda each: each * MAX_USER),
    st.text('ab"\\😀', max_size=MAX_USER, min_size=1),
)
INFOS = st.one_of(st.none(), st.integers(0, MAX_INFO - 8).map(lambda size: b'{"i":"%b"}' % (b"i" * size)))
KINDS = st.sampled_from(("joined", "left", "moved"))


@given(st.lists(st.tuples(KINDS, NAMES, INFOS, st.booleans()), min_size=1, max_size=12), st.integers(1, 60))
def test_no_event_is_more_than_one_write(kinds: list[tuple[str, str | None, bytes | None, bool]], times: int) -> None:
    changes = Changes()
    for number in range(times):
        for place, (kind, user, info, claimed) in enumerate(kinds):
            one = Member(f"{number:08}{place:08}", Identity(user, info, claimed))
            match kind:
                case "joined":
                    changes.add([Entered(one)])
                case "left":
                    changes.add([Departed(one, Reason.REMOVED)])
                case _:
                    changes.add([Moved(one, f"{number:08}was{place:05}")])
    events = list(told(GROUP, changes))
    assert sum(len(each.joined) + len(each.left) + len(each.moved) for each in events) == len(changes)
    for each in events:
        for form in (JSON, SSE):
            assert len(form.frame(each)) <= ONE_WRITE
        assert weight_of(each) <= EVENT_WEIGHT
    for before, after in pairwise(events):  # nor are there more than it takes
        assert weight_of(before) + weight_of(after) > EVENT_WEIGHT


def test_what_is_told_is_json() -> None:
    ann = Member("a", Identity("ann", b'{"name":"Ann"}', claimed=True))
    said = Presence("g", [ann], [("b", Reason.LOST)], [Moved(Member("c"), "d")])
    assert msgspec.json.decode(str(JSON.payload(said))) == {
        "group": "g",
        "presence": {
            "joined": [{"client": "a", "user": "ann", "info": {"name": "Ann"}, "claimed": True}],
            "left": [{"client": "b", "reason": "lost"}],
            "moved": [{"was": "d", "client": "c", "user": None, "info": None}],
        },
    }
    assert msgspec.json.decode(str(JSON.payload(Presence("g", reset=True)))) == {"group": "g", "presence": "reset"}
