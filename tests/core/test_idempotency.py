"""The ledger of idempotency keys: against a model, and its rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import Draft, IdempotencyConflict, InvalidIdempotencyKey, Kind, Position, TooManyKeys
from triocast.core.idempotency import REMEMBERED, Ledger, Record, digest_of
from triocast.core.names import check_idempotency_key

AT = Position("e", 1)
ONE, OTHER = digest_of(Draft.of("one")), digest_of(Draft.of("other"))


def published(ledger: Ledger, key: str, now: float) -> Record:
    record = ledger.claim(("g", key), ONE, now)
    ledger.keep(record, AT, now)
    return record


def test_a_key_is_known_until_its_time_is_over_and_not_longer() -> None:
    ledger = Ledger(10)
    first = published(ledger, "k", 100.0)
    assert ledger.claim(("g", "k"), ONE, 100.0 + REMEMBERED - 0.001) is first
    again = ledger.claim(("g", "k"), ONE, 100.0 + REMEMBERED)
    assert again is not first
    assert again.outcome is None


def test_time_runs_from_the_publish_and_not_before() -> None:
    ledger = Ledger(10)
    record = ledger.claim(("g", "k"), ONE, 0.0)
    assert ledger.claim(("g", "k"), ONE, 10 * REMEMBERED) is record
    assert ledger.expire(10 * REMEMBERED, 100) == 0


def test_groups_have_keys_of_their_own() -> None:
    ledger = Ledger(10)
    first = published(ledger, "k", 0.0)
    assert ledger.claim(("another", "k"), OTHER, 1.0) is not first


@pytest.mark.parametrize("is_published", [True, False])
def test_another_message_with_the_same_key_is_refused(is_published: bool) -> None:
    ledger = Ledger(10)
    record = ledger.claim(("g", "k"), ONE, 0.0)
    if is_published:
        ledger.keep(record, AT, 0.0)
    with pytest.raises(IdempotencyConflict, match="'k' came to g with another message"):
        ledger.claim(("g", "k"), OTHER, 1.0)
    assert ledger.claim(("g", "k"), ONE, 1.0) is record


def test_a_key_whose_message_was_not_published_is_as_good_as_new() -> None:
    ledger = Ledger(10)
    ledger.drop(ledger.claim(("g", "k"), ONE, 0.0))
    assert len(ledger) == 0
    assert ledger.claim(("g", "k"), OTHER, 0.0).outcome is None


def test_a_key_too_many_is_refused_and_none_forgotten_early() -> None:
    ledger = Ledger(2)
    first, second = published(ledger, "1", 0.0), ledger.claim(("g", "2"), ONE, 1.0)
    with pytest.raises(TooManyKeys, match="2 idempotency keys"):
        ledger.claim(("g", "3"), ONE, REMEMBERED - 0.001)
    assert ledger.claim(("g", "1"), ONE, 2.0) is first
    assert ledger.claim(("g", "2"), ONE, 2.0) is second
    assert ledger.claim(("g", "3"), ONE, REMEMBERED).outcome is None
    assert len(ledger) == 2


def test_what_is_over_its_time_is_forgotten_a_few_at_a_time() -> None:
    ledger = Ledger(10)
    for count in range(5):
        published(ledger, str(count), float(count))
    assert ledger.expire(REMEMBERED + 3.0, 3) == 3
    assert len(ledger) == 2
    assert ledger.expire(REMEMBERED + 3.0, 3) == 1
    assert ledger.expire(REMEMBERED + 3.0, 3) == 0


DRAFTS = st.builds(
    Draft, st.sampled_from(Kind), st.binary(max_size=4), st.none() | st.text(alphabet="a -1\ud800é", max_size=3)
)


@given(DRAFTS, DRAFTS)
def test_drafts_have_the_same_digest_if_they_are_the_same_message(one: Draft, other: Draft) -> None:
    assert (digest_of(one) == digest_of(other)) is (one == other)


def test_the_digest_cannot_be_misled_by_where_a_key_ends() -> None:
    drafts = [Draft(Kind.TEXT, b"2 ab", None), Draft(Kind.TEXT, b"b", "a"), Draft(Kind.TEXT, b"", "ab")]
    drafts += [Draft(Kind.TEXT, b"ab", ""), Draft(Kind.TEXT, b"ab", None), Draft(Kind.JSON, b"ab", None)]
    assert len({digest_of(draft) for draft in drafts}) == len(drafts)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "keep", "drop", "expire"]),
        st.sampled_from([("g", "a"), ("g", "b"), ("h", "a"), ("h", "c")]),
        st.sampled_from([ONE, OTHER]),
        st.sampled_from([0.0, 1.0, 100.0, 299.0]),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_ledger_is_a_table_with_times(steps: list[tuple[str, tuple[str, str], bytes, float]]) -> None:
    ledger, limit, now = Ledger(3), 3, 0.0
    model: dict[tuple[str, str], tuple[bytes, float | None]] = {}
    records: dict[tuple[str, str], Record] = {}
    for step, name, digest, passed in steps:
        now += passed
        alive = {each: was for each, was in model.items() if was[1] is None or now < was[1]}
        if step == "claim":
            try:
                record = ledger.claim(name, digest, now)
            except IdempotencyConflict:
                assert alive[name][0] != digest
            except TooManyKeys:
                assert name not in alive
                assert len(alive) == limit
            else:
                assert (name in alive) is (record is records.get(name))
                assert alive.setdefault(name, (digest, None))[0] == digest
                assert len(alive) <= limit
                records[name] = record
                model = alive
        elif step == "expire":
            ledger.expire(now, 100)
            assert len(ledger) == len(alive)
        elif name in alive and alive[name][1] is None:
            if step == "keep":
                ledger.keep(records[name], AT, now)
                model[name] = (alive[name][0], now + REMEMBERED)
            else:
                ledger.drop(records[name])
                del model[name]


@pytest.mark.parametrize("key", ["a", "!" * 255, "order-7:paid/é".replace("é", "e"), "~+%=&"])
def test_keys_are_printable_ascii(key: str) -> None:
    assert check_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "!" * 256, "a b", "é", "a\n", "\0", None, 7, b"k"])
def test_other_keys_are_refused_with_the_rule(key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey, match="1 to 255 printable ASCII characters without spaces"):
        check_idempotency_key(key)
