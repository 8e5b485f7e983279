"""Last values: the newest message of each key, against a list of all that was published."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triocast.core.last_values import SPARE, LastValues
from triocast.core.message import Kind, Message


class Counted(int):
    """An offset that counts how often offsets are compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) > int(other)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    def __hash__(self) -> int:
        return int(self)


def message(offset: int, key: str | None) -> Message:
    return Message("g", "e", offset, Kind.TEXT, b"x" * offset, key)


@given(
    st.lists(st.sampled_from([None, "a", "b", "c", "d"]), max_size=30),
    st.integers(1, 5),
    st.integers(0, 30),
    st.integers(1, 5),
)
def test_they_are_the_newest_of_the_keys_published_last(
    keys: list[str | None], max_keys: int, after: int, limit: int
) -> None:
    values = LastValues(max_keys)
    published = [message(offset, key) for offset, key in enumerate(keys, 1)]
    for each in published:
        values.put(each)
    newest = {each.key: each for each in published}
    kept = sorted(newest.values(), key=lambda each: each.offset)[-max_keys:]
    assert values.after(0, 100) == kept
    assert values.after(after, limit) == [each for each in kept if each.offset > after][:limit]
    assert values.weight == sum(each.weight for each in kept)
    assert len(values) == len(kept)


def test_a_page_looks_at_little_more_than_what_is_on_it_wherever_it_begins() -> None:
    values = LastValues(10_000)
    for offset in range(1, 10_001):
        values.put(Message("g", "e", Counted(offset), Kind.TEXT, b"", str(offset)))
    Counted.compared = 0
    for begin in (0, 5_000, 9_900):
        assert [each.offset for each in values.after(begin, 100)] == list(range(begin + 1, begin + 101))
    assert Counted.compared < 1_000 + 3 * 100  # the lists that were compared here, too


def test_what_newer_values_have_replaced_is_not_kept_for_ever() -> None:
    values = LastValues(100)
    for offset in range(1, 100_001):
        values.put(Message("g", "e", offset, Kind.TEXT, b"", str(offset % 70)))
    assert len(values) == 70
    assert len(values._offsets) == len(values._keys) <= 2 * 70 + SPARE
    assert [each.offset for each in values.after(0, 1000)] == list(range(99_931, 100_001))
