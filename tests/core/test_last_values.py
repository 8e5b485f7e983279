"""Last values: the newest message of each key, against a list of all that was published."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triocast.core.last_values import LastValues
from triocast.core.message import Kind, Message


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
