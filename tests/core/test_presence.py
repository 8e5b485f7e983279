"""The roll of a group against a slow model, and what is told of it: whoever applies that ends with exactly the roll."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.presence import Change, Changes, Departed, Entered, Member, Members, Moved, Reason, Roll
from triocast.core.presence_log import PresenceLog, told
from triocast.core.wire import Presence

GRACE = 3.0
ANN, CY = Identity("ann"), Identity(None, b'{"name":"Cy"}', claimed=True)
WHO = {"a": ANN, "b": ANN, "c": ANN, "d": CY, "e": CY, "f": ANONYMOUS}
"""Connections of few people, so that they come back as each other."""


def member(client: str) -> Member:
    """Who a connection is does not change."""
    return Member(client, WHO[client])


# The roll


@dataclass
class Model:
    """What a roll says, found out anew each time."""

    there: list[Member] = field(default_factory=list)
    leaving: list[tuple[str, float, Reason]] = field(default_factory=list)

    def enter(self, one: Member) -> Change | None:
        if one in self.there:
            self.leaving = [each for each in self.leaving if each[0] != one.client]
            return None
        self.there.append(one)
        for was, _, _ in list(self.leaving):
            if self.known(was) == self.known(one.client) is not None:
                self.remove(was)
                return Moved(one, was)
        return Entered(one)

    def depart(self, client: str, reason: Reason, due: float | None) -> Change | None:
        found = [each for each in self.there if each.client == client]
        if not found:
            return None
        if due is None:
            self.remove(client)
            return Departed(found[0], reason)
        if client not in [each[0] for each in self.leaving]:
            self.leaving.append((client, due, reason))
        return None

    def expire(self, now: float) -> list[Change]:
        over = [each for each in self.leaving if each[1] <= now]
        for client, _, _ in over:
            self.remove(client)
        return [Departed(member(client), reason) for client, _, reason in over]

    def known(self, client: str) -> object:
        identity = member(client).identity
        return identity.user or identity.info

    def remove(self, client: str) -> None:
        self.there = [each for each in self.there if each.client != client]
        self.leaving = [each for each in self.leaving if each[0] != client]


@dataclass(frozen=True)
class Step:
    """Something that happens: `what` to a connection, after some time."""

    what: str
    client: str
    after: float


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(("enter", "enter", "leave", "leave later", "leave later", "remove", "expire")),
        st.sampled_from(sorted(WHO)),
        st.sampled_from((0.0, 0.0, 1.0)),
    ),
    max_size=40,
)


class Course:
    """A roll to which steps happen."""

    def __init__(self) -> None:
        self.roll = Roll()
        self.now = 0.0

    def take(self, step: Step) -> list[Change]:
        """Return what changed."""
        self.now += step.after
        match step.what:
            case "enter":
                change = self.roll.enter(member(step.client))
            case "leave":
                change = self.roll.depart(step.client, Reason.LEFT)
            case "leave later":
                change = self.roll.depart(step.client, Reason.LEFT, self.now + GRACE)
            case "remove":
                change = self.roll.depart(step.client, Reason.REMOVED)
            case _:
                return list(self.roll.expire(self.now))
        return [] if change is None else [change]

    @property
    def there(self) -> set[Member]:
        return set(self.roll.page(None, 1000).members)


@given(STEPS)
def test_a_roll_says_what_the_model_says(steps: list[Step]) -> None:
    course, model = Course(), Model()
    for step in steps:
        changes = course.take(step)
        match step.what:
            case "enter":
                expected = [model.enter(member(step.client))]
            case "expire":
                expected = [*model.expire(course.now)]
            case what:
                due = course.now + GRACE if what == "leave later" else None
                reason = Reason.REMOVED if what == "remove" else Reason.LEFT
                expected = [model.depart(step.client, reason, due)]
        assert changes == [each for each in expected if each is not None]
        assert course.there == set(model.there)
        assert course.roll.due == min((due for _, due, _ in model.leaving), default=None)
        users = {each.user for each in model.there if each.user is not None}
        page = course.roll.page(None, 1)
        assert (page.count, page.users, len(course.roll)) == (len(model.there), len(users), len(model.there))


@given(STEPS)
def test_each_join_has_one_leave_and_only_then(steps: list[Step]) -> None:
    course = Course()
    there: set[str] = set()
    changes = [change for step in steps for change in course.take(step)]
    for change in [*changes, *course.roll.end()]:
        match change:
            case Entered(one):
                assert one.client not in there
                there.add(one.client)
            case Departed(one, _):
                there.remove(one.client)
            case Moved(one, was):
                there.remove(was)
                assert one.client not in there
                there.add(one.client)
    assert not there
    assert (len(course.roll), course.roll.due, course.roll.page(None, 1)) == (0, None, Members([], 0, 0))


@given(STEPS, st.integers(1, 7))
def test_the_pages_of_a_roll_are_all_of_it_in_order(steps: list[Step], limit: int) -> None:
    course = Course()
    for step in steps:
        course.take(step)
    found: list[Member] = []
    after: str | None = None
    while True:
        page = course.roll.page(after, limit)
        assert len(page.members) <= limit
        found += page.members
        after = page.next
        if after is None:
            break
    assert found == sorted(course.there, key=lambda each: each.client)


def test_who_comes_back_takes_the_place_of_the_one_that_left_first() -> None:
    roll = Roll()
    for client in "ab":
        roll.enter(member(client))
    for client in "ab":
        roll.depart(client, Reason.LEFT, 5.0)
    assert roll.enter(Member("x", Identity("ann"))) == Moved(Member("x", Identity("ann")), "a")
    assert roll.enter(Member("y", Identity("ann"))) == Moved(Member("y", Identity("ann")), "b")
    assert roll.enter(Member("z", Identity("ann"))) == Entered(Member("z", Identity("ann")))


def test_who_says_nothing_of_itself_is_recognised_by_nothing() -> None:
    roll = Roll()
    roll.enter(Member("a"))
    roll.depart("a", Reason.LEFT, 5.0)
    assert roll.enter(Member("b")) == Entered(Member("b"))


def test_a_users_name_is_no_info() -> None:
    roll = Roll()
    roll.enter(Member("a", Identity('{"name":"Cy"}')))
    roll.depart("a", Reason.LEFT, 5.0)
    assert isinstance(roll.enter(Member("b", Identity(None, b'{"name":"Cy"}', claimed=True))), Entered)


def test_whoever_is_about_to_leave_has_its_own_reason_at_the_end() -> None:
    roll = Roll()
    roll.enter(Member("a"))
    roll.enter(Member("b"))
    roll.depart("a", Reason.LOST, 5.0)
    assert roll.end() == [Departed(Member("a"), Reason.LOST), Departed(Member("b"), Reason.LEFT)]


# What is told of it


Applied = dict[str, Member]


def joined(known: Applied, event: Presence) -> None:
    known.update({each.client: each for each in event.joined})


def left(known: Applied, event: Presence) -> None:
    for client, _ in event.left:
        known.pop(client, None)


def moved(known: Applied, event: Presence) -> None:
    for each in event.moved:
        known.pop(each.was, None)
        known[each.member.client] = each.member


ORDERS: tuple[tuple[Callable[[Applied, Presence], None], ...], ...] = (
    (joined, left, moved),
    (moved, joined, left),
    (left, moved, joined),
)


def apply(known: Applied, events: Iterable[Presence], order: int = 0) -> None:
    for event in events:
        assert not event.reset
        for part in ORDERS[order]:
            part(known, event)


class Watcher:
    """A client that asks when it is told to, and applies what it is told."""

    def __init__(self, log: PresenceLog, order: int) -> None:
        self.known: Applied | None = None
        self.cursor = -1
        self._log = log
        self._order = order

    def read(self) -> None:
        events, self.cursor = self._log.read("g", self.cursor)
        for event in events:
            if event.reset:
                self.known = None
            elif self.known is not None:
                apply(self.known, [event], self._order)

    def ask(self, there: Iterable[Member]) -> None:
        if self.cursor >= 0:
            self.known = {each.client: each for each in there}


@settings(max_examples=400)
@given(STEPS, st.integers(0, len(ORDERS) - 1), st.data())
def test_whoever_applies_what_is_told_to_members_read_at_any_moment_ends_with_the_roll(
    steps: list[Step], order: int, data: st.DataObject
) -> None:
    """However it is cut into rounds, read by a laggard, or begun anew, and in whatever order an event is applied."""
    course, changes, log = Course(), Changes(), PresenceLog()
    watcher = Watcher(log, order)
    for step in steps:
        changes.add(course.take(step))
        happens = data.draw(st.sets(st.sampled_from(("round", "read", "ask", "fall behind")), max_size=2))
        if "round" in happens:
            for event in told("g", changes):
                log.append(event)
            changes = Changes()
        if "fall behind" in happens:
            watcher.cursor = -1
        if "read" in happens:
            watcher.read()
        if "ask" in happens:
            watcher.ask(course.there)
    for event in told("g", changes):
        log.append(event)
    while watcher.cursor != log.top:
        watcher.read()
    if watcher.known is None:
        watcher.ask(course.there)
    assert watcher.known == {each.client: each for each in course.there}


@pytest.mark.parametrize("there", ["", "a", "ab"])
@pytest.mark.parametrize("order", range(len(ORDERS)))
def test_so_does_who_knew_the_members_before_whatever_four_things_happen_to_three_connections(
    there: str, order: int
) -> None:
    """All there are, told as one event, or as two that a laggard is given as one."""
    steps = [Step(what, client, 0.0) for what in ("enter", "leave", "leave later") for client in "abc"]
    for happened in product(steps, repeat=4):
        course, log = Course(), PresenceLog()
        for client in there:
            course.take(Step("enter", client, 0.0))
        before = {each.client: each for each in course.there}
        changes = [course.take(step) for step in happened]
        for cut in range(4):
            for some in (changes[:cut], changes[cut:]):
                gathered = Changes()
                gathered.add(chain.from_iterable(some))
                for event in told("g", gathered):
                    log.append(event)
            known = dict(before)
            apply(known, log.read("g", 0)[0], order)
            assert known == {each.client: each for each in course.there}, (there, happened, cut)
            log = PresenceLog()


@settings(max_examples=400)
@given(STEPS)
def test_each_connection_is_told_of_in_one_place(steps: list[Step]) -> None:
    course, changes = Course(), Changes()
    for step in steps:
        changes.add(course.take(step))
        named = [*changes.joined, *changes.left, *changes.moved]
        assert len(named) == len(set(named)) == len(changes)
        replaced = {each.was for each in changes.moved.values()}
        assert replaced.isdisjoint([*changes.joined, *changes.moved])
        assert set(changes.joined) | set(changes.moved) <= {each.client for each in course.there}


FIRST, AGAIN, ANEW = map(member, "abc")


@pytest.mark.parametrize(
    ("happened", "joined", "left", "moved"),
    [
        ([Entered(FIRST)], "a", {}, {}),
        ([Entered(FIRST), Departed(FIRST, Reason.LEFT)], "", {"a": "left"}, {}),
        ([Departed(FIRST, Reason.LOST), Entered(FIRST)], "a", {}, {}),
        ([Moved(AGAIN, "a")], "", {}, {"b": "a"}),
        ([Moved(AGAIN, "a"), Moved(ANEW, "b")], "", {"b": "moved"}, {"c": "a"}),
        ([Moved(AGAIN, "a"), Departed(AGAIN, Reason.LEFT)], "", {"a": "left", "b": "left"}, {}),
        ([Entered(FIRST), Moved(AGAIN, "a")], "b", {"a": "moved"}, {}),
        ([Moved(AGAIN, "a"), Entered(FIRST)], "ab", {}, {}),
        ([Moved(AGAIN, "a"), Entered(FIRST), Departed(AGAIN, Reason.LEFT)], "a", {"b": "left"}, {}),
        ([Moved(AGAIN, "a"), Moved(FIRST, "b")], "a", {"b": "moved"}, {}),
    ],
    ids=str,
)
def test_what_is_told_is_what_holds_in_the_end(
    happened: list[Change], joined: str, left: dict[str, str], moved: dict[str, str]
) -> None:
    changes = Changes()
    changes.add(happened)
    assert sorted(changes.joined) == list(joined)
    assert {client: reason.value for client, reason in changes.left.items()} == left
    assert {client: each.was for client, each in changes.moved.items()} == moved
