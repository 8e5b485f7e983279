"""Positions as text: what is one is read back as it was written, and everything else is refused with a reason."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import InvalidPosition, Position
from triocast.core.positions import MAX_EPOCH, MAX_OFFSET, parse_position, parse_since
from triocast.core.recovery import OLDEST
from triocast.engines.memory import random_epoch

EPOCH_CHARACTERS = string.ascii_letters + string.digits + "._~-"
EPOCHS = st.text(EPOCH_CHARACTERS, min_size=1, max_size=MAX_EPOCH)
OFFSETS = st.integers(0, MAX_OFFSET)
# Texts that are nearly positions; what is drawn at random from all characters never is.
NEARLY = st.text(EPOCH_CHARACTERS + ":+ \n\0é٣", max_size=30) | st.builds(
    "{}:{}".format, EPOCHS, st.text("0123456789+-_ ٣")
)


@given(st.builds(Position, EPOCHS, OFFSETS))
def test_a_position_is_read_back_as_it_was_written(position: Position) -> None:
    assert parse_position(str(position)) == position
    assert parse_since(str(position)) == position


@given(st.text() | NEARLY)
def test_any_text_is_a_position_exactly_when_it_is_the_way_one_is_written(text: str) -> None:
    epoch, _, digits = text.partition(":")
    number = int(digits) if digits.isascii() and digits.isdigit() else -1
    expected = (
        f"{epoch}:{number}" == text
        and 0 <= number <= MAX_OFFSET
        and 1 <= len(epoch) <= MAX_EPOCH
        and set(epoch) <= set(EPOCH_CHARACTERS)
    )
    try:
        position = parse_position(text)
    except InvalidPosition as error:
        assert not expected
        assert str(error).isascii()
        assert len(str(error)) < 700
        assert "EPOCH:OFFSET" in str(error)
    else:
        assert expected
        assert str(position) == text


@given(st.text() | NEARLY)
def test_where_to_begin_is_zero_or_a_position(text: str) -> None:
    def outcome(parse: object) -> object:
        assert callable(parse)
        try:
            return parse(text)
        except InvalidPosition as error:
            return str(error)

    assert outcome(parse_since) == (OLDEST if text == "0" else outcome(parse_position))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no ':'"),
        ("0", "has no ':'"),
        ("41", "has no ':'"),
        ("e", "has no ':'"),
        (":0", "epoch is empty"),
        (":", "epoch is empty"),
        ("a b:1", "an epoch has"),
        (" a:1", "an epoch has"),
        ("é:1", "an epoch has"),
        ("a%3A:1", "an epoch has"),
        ("e" * 65 + ":1", "an epoch has"),
        ("e:", "an offset is"),
        ("e:-1", "an offset is"),
        ("e:+1", "an offset is"),
        ("e:01", "an offset is"),
        ("e:1 ", "an offset is"),
        ("e:1\n", "an offset is"),
        ("e:1_0", "an offset is"),
        ("e:1:2", "an offset is"),
        ("e:٣", "an offset is"),
        ("e:1.0", "an offset is"),
        (f"e:{2**63}", "an offset is"),
        ("e:" + "9" * 10_000, "an offset is"),
    ],
)
def test_what_is_no_position_is_refused_with_what_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(InvalidPosition, match=fault) as caught:
        parse_position(text)
    assert (caught.value.code, caught.value.status, caught.value.temporary) == ("invalid_position", 400, False)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("offset", [0, 1, MAX_OFFSET])
def test_the_smallest_and_the_largest_offset_are_read(offset: int) -> None:
    assert parse_position(f"e:{offset}") == Position("e", offset)


def test_the_epochs_that_engines_make_are_readable() -> None:
    assert parse_position(f"{random_epoch()}:7").offset == 7
