"""Where a listener's groups are, against any stream of a server that keeps to its word, cut off anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.client.course import Course, Place, Step
from triocast.client.errors import UnexpectedFrame
from triocast.client.frames import Delivered, Frame, Gap, Joined, Left, Received
from triocast.client.presence import Departure, Presence, PresenceReset
from triocast.core.message import Position
from triocast.core.recovery import OLDEST


@dataclass
class Story:
    """A group on a server, as one client is told of it: all that exists in each epoch, and what was handed on."""

    course: Course
    top: int = 0
    oldest: int = 1  # the first offset that is kept
    told: int = 0  # what the connection has told, up to here
    epoch: int = 0
    given: list[Step] = field(default_factory=list)

    def connect(self, *, with_header: bool) -> None:
        known = self.course.since
        since = known[0] if known else None
        now = f"e{self.epoch}"
        foreign = since is not None and since.epoch not in ("", now)
        wanted = self.top if since is None else 0 if foreign else since.offset
        self.told = max(wanted, min(self.oldest - 1, self.top))
        self.take(self.course.begin(f"{now}:{self.told}" if with_header else None))
        self.take(self.course.follow(Joined("a", now, self.told)))
        if foreign and since is not None:
            self.take(self.course.follow(Gap("a", 1, self.told, "epoch", (since.epoch, now))))
        elif self.told > wanted and since != OLDEST:
            self.take(self.course.follow(Gap("a", wanted + 1, self.told, "lost")))

    def tell(self, count: int) -> None:
        for _ in range(min(count, self.top - self.told)):
            self.told += 1
            self.take(self.course.follow(Received(f"{self.epoch}:{self.told}", "a", self.told)))

    def take_presence(self, item: Presence | PresenceReset) -> None:
        before = self.course.since
        assert list(self.course.follow(item)) == [(item, None)]
        assert self.course.since == before

    def take(self, steps: Iterable[Step]) -> None:
        self.given += steps

    def happen(self, kind: str, number: int, *, with_header: bool) -> None:
        match kind:
            case "publish":
                self.top += number
            case "tell":
                self.tell(number)
            case "slow" if self.top > self.told:
                last = min(self.top, self.told + number)
                self.take(self.course.follow(Gap("a", self.told + 1, last, "slow")))
                self.told = last
            case "not for us" if self.top > self.told:
                self.told += 1
                self.take(self.course.follow(Delivered("a", f"e{self.epoch}", self.told)))
            case "presence":
                self.take_presence(PresenceReset("a") if number == 1 else Presence("a", left=(Departure("x", "left"),)))
            case "trim":
                self.oldest = min(self.top + 1, self.oldest + number)
            case "restart":
                self.epoch, self.top, self.oldest = self.epoch + 1, number, 1
                self.connect(with_header=with_header)
            case "cut":
                self.connect(with_header=with_header)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "tell", "slow", "cut", "trim", "restart", "not for us", "presence"]),
        st.integers(1, 5),
    ),
    max_size=40,
)


@given(EVENTS, st.booleans(), st.sampled_from([None, OLDEST, Position("e0", 0)]))
def test_every_offset_comes_once_in_order_as_a_message_or_in_a_gap(
    events: list[tuple[str, int]], with_header: bool, since: Position | None
) -> None:
    story = Story(Course(["a"], {} if since is None else {"a": since}))
    story.connect(with_header=with_header)
    for kind, number in events:
        story.happen(kind, number, with_header=with_header)
    story.tell(story.top)
    at = Position("e0", 0)
    for item, position in story.given:
        assert position is not None
        assert not isinstance(item, Left | Presence | PresenceReset)
        if isinstance(item, Gap) and item.reason == "epoch":
            assert item.epochs is not None
            assert item.epochs[0] == at.epoch
            at = Position(item.epochs[1], 0)
        first = item.first if isinstance(item, Gap) else item.offset
        # Who begins at the oldest, or with what comes, is promised nothing about what was before.
        free = since != Position("e0", 0) and item is story.given[0][0]
        assert free or first == at.offset + 1
        assert not isinstance(item, Received) or item.data == f"{position.epoch[1:]}:{item.offset}"
        assert not isinstance(item, Gap) or item.reason != "untold"
        assert free or position.epoch == at.epoch
        at = position
    if story.given:
        assert at == Position(f"e{story.epoch}", story.top)
        assert story.course.since == [at]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Received("x", "a", 7), "the server sent 7 of a after 7, which is not in order"),
        (Received("x", "a", 1), "the server sent 1 of a after 7"),
        (Gap("a", 7, 9, "slow"), "the server sent 7 of a after 7"),
        (Gap("a", 8, 5, "slow"), "the server sent a gap of a from 8 to 5"),
        (Delivered("a", "e", 7), "the server sent 7 of a after 7"),
    ],
)
def test_what_goes_back_is_not_accepted(frame: Frame, why: str) -> None:
    course = Course(["a"], {"a": Position("e", 7)})
    assert list(course.begin("e:7")) == []
    with pytest.raises(UnexpectedFrame, match=why):
        list(course.follow(frame))
    assert course.since == [Position("e", 7)]


def test_an_offset_that_is_not_for_us_counts_and_what_is_missing_before_it_is_a_gap() -> None:
    course = Course(["a"], {"a": Position("e", 7)})
    assert list(course.begin("e:7")) == []
    delivered = Delivered("a", "e", 10)
    assert list(course.follow(delivered)) == [
        (Gap("a", 8, 9, "untold"), Position("e", 9)),
        (delivered, Position("e", 10)),
    ]
    assert list(course.follow(Received("x", "a", 11))) == [(Received("x", "a", 11), Position("e", 11))]
    assert course.since == [Position("e", 11)]


def test_an_offset_of_an_epoch_that_nobody_told_is_a_new_history() -> None:
    course = Course(["a"], {"a": Position("e", 7)})
    assert list(course.begin("e:7")) == []
    assert list(course.follow(Delivered("a", "f", 3))) == [
        (Gap("a", 1, 2, "epoch", ("e", "f")), Position("f", 2)),
        (Delivered("a", "f", 3), Position("f", 3)),
    ]


def test_who_knows_no_position_has_one_by_an_offset_that_is_not_for_it() -> None:
    course = Course(["a"], {})
    assert list(course.begin(None)) == []
    assert list(course.follow(Delivered("a", "e", 3))) == [(Delivered("a", "e", 3), Position("e", 3))]
    assert course.since == [Position("e", 3)]
    assert list(course.follow(Delivered("b", "e", 1))) == []


def test_what_is_missing_before_a_gap_is_a_gap_of_its_own() -> None:
    course = Course(["a"], {"a": Position("e", 7)})
    assert list(course.begin("e:7")) == []
    steps = [item for item, _ in course.follow(Gap("a", 10, 12, "slow"))]
    assert steps == [Gap("a", 8, 9, "untold"), Gap("a", 10, 12, "slow")]


def test_a_step_counts_once_the_next_one_is_asked_for() -> None:
    course = Course(["a"], {"a": Position("e", 7)})
    assert list(course.begin("e:7")) == []
    steps = course.follow(Received("x", "a", 8))
    assert next(steps) == (Received("x", "a", 8), Position("e", 8))
    assert course.since == [Position("e", 7)]
    assert next(steps, None) is None
    assert course.since == [Position("e", 8)]


def test_offsets_without_an_epoch_say_nothing_on_the_next_connection() -> None:
    place = Place("a")
    place.reach(7)
    place.come_back()
    assert place.at is None


def test_who_counts_and_is_told_no_position_has_none_until_it_is_told_one_again() -> None:
    course = Course(["a"], {"a": Position("e", 7)}, counts=True)
    assert list(course.begin("e:7")) == []
    assert list(course.follow(Received("x", "a"))) == [(Received("x", "a", 8), Position("e", 8))]
    assert list(course.begin(None)) == []
    assert list(course.follow(Received("value", "a"))) == [(Received("value", "a"), None)]
    assert course.since is None
    assert list(course.begin("e:20")) == []
    assert list(course.follow(Received("y", "a"))) == [(Received("y", "a", 21), Position("e", 21))]


def test_groups_that_were_not_asked_for_are_passed_on_and_have_no_position() -> None:
    course = Course(["a"], {})
    assert list(course.begin("e:7")) == []
    assert list(course.follow(Received("x", "b", 1))) == [(Received("x", "b", 1), None)]
    assert list(course.follow(Joined("b", "e", 1))) == []
    assert course.origins == {"a": Position("e", 7)}


LEFT = Left("a", "e", 1)


def one_message_and_out() -> Course:
    course = Course(["a"], {})
    for frame in (Joined("a", "e", 0), Received("x", "a", 1), LEFT):
        assert list(course.follow(frame))[:1] in ([], [(frame, Position("e", 1))], [(frame, None)])
    return course


@pytest.mark.parametrize(("epoch", "offset"), [("e", 1), ("e", 7), ("e", 0), ("f", 3)])
def test_who_is_taken_in_again_begins_where_the_server_says(epoch: str, offset: int) -> None:
    course = one_message_and_out()
    assert list(course.follow(Joined("a", epoch, offset))) == []
    assert course.since == [Position(epoch, offset)]
    following = Received("y", "a", offset + 1)
    assert list(course.follow(following)) == [(following, Position(epoch, offset + 1))]


def test_who_was_taken_out_goes_on_where_it_was_on_a_new_connection() -> None:
    course = one_message_and_out()
    assert course.since == [Position("e", 1)]
    assert list(course.begin("e:3")) == []
    assert list(course.follow(Joined("a", "e", 3))) == []
    steps = list(course.follow(Received("y", "a", 4)))
    assert [item for item, _ in steps] == [Gap("a", 2, 3, "untold"), Received("y", "a", 4)]


def test_the_end_of_a_group_that_was_not_asked_for_is_handed_on() -> None:
    assert list(Course(["b"], {}).follow(LEFT)) == [(LEFT, None)]
