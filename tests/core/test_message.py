from __future__ import annotations

from dataclasses import replace

import pytest

from triocast import Draft, InvalidMessage, Kind, Message, MessageTooLarge, Position
from triocast.core.message import OVERHEAD
from triocast.core.wire import raw


@pytest.mark.parametrize(
    ("value", "kind", "data"),
    [
        ("héllo", Kind.TEXT, "héllo".encode()),
        ("", Kind.TEXT, b""),
        (b"\x00\xff", Kind.BINARY, b"\x00\xff"),
        (bytearray(b"x"), Kind.BINARY, b"x"),
        ({"a": [1, None]}, Kind.JSON, b'{"a":[1,null]}'),
        (None, Kind.JSON, b"null"),
    ],
)
def test_a_python_value_becomes_a_draft_of_its_kind(value: object, kind: Kind, data: bytes) -> None:
    assert Draft.of(value) == Draft(kind, data)


@pytest.mark.parametrize("value", [object(), "\ud800", {"a": object()}])
def test_what_cannot_be_said_is_refused(value: object) -> None:
    with pytest.raises(InvalidMessage):
        Draft.of(value)


@pytest.mark.parametrize("data", [b'{"a": 1 }', b" [1,\t2]\n", b'"\xc3\xa9"'])
def test_json_from_outside_is_kept_byte_for_byte(data: bytes) -> None:
    assert Draft.parse(Kind.JSON, data).data == data


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"'a'", b'"\xff"', b"[" * 100_000, b"1 2"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        Draft.parse(Kind.JSON, data)


@pytest.mark.parametrize("draft", [Draft(Kind.TEXT, b"\xff"), Draft(Kind.JSON, b"{")])
def test_a_draft_made_by_hand_is_checked_before_it_can_end_a_group(draft: Draft) -> None:
    with pytest.raises(InvalidMessage):
        Draft.of(draft)
    assert Draft.of(Draft(Kind.TEXT, b"x"), key="k") == Draft(Kind.TEXT, b"x", "k")


OPTIONS = {"key": "k", "idempotency_key": "once", "exclude": "id", "expected": Position("e", 7)}


def test_a_draft_made_by_hand_keeps_each_option_that_is_not_given_anew() -> None:
    draft = Draft(Kind.TEXT, b"x", **OPTIONS)  # type: ignore[arg-type]
    assert Draft.of(draft) == draft == Draft.of("x", **OPTIONS)  # type: ignore[arg-type]
    others = {"key": "l", "idempotency_key": "twice", "exclude": "other", "expected": Position("", 0)}
    for name, value in others.items():
        assert Draft.of(draft, **{name: value}) == replace(draft, **{name: value})  # type: ignore[arg-type]
        assert Draft.of(Draft(Kind.TEXT, b"x"), **{name: value}) == Draft.of("x", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"exclude": "a b"}, {"idempotency_key": "a b"}])
def test_a_draft_made_by_hand_has_its_options_checked(option: dict[str, str]) -> None:
    for value in (Draft(Kind.TEXT, b"x", **option), "x"):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'a b' is "):
            Draft.of(value, **option)  # type: ignore[arg-type]


def test_a_position_is_told_as_it_is_asked_for() -> None:
    assert [each.text for each in (Position("e", 7), Position("e", 0), Position("", 0))] == ["e:7", "e:0", "0"]


def test_text_that_is_not_utf8_is_refused_with_the_place() -> None:
    with pytest.raises(InvalidMessage, match="byte 2"):
        Draft.parse(Kind.TEXT, b"ab\xff")


def test_binary_may_be_anything() -> None:
    assert Draft.parse(Kind.BINARY, b"\xff\xfe").data == b"\xff\xfe"


def test_the_size_limit_counts_bytes_and_includes_the_limit() -> None:
    Draft.of("éé").check_size(4)
    with pytest.raises(MessageTooLarge, match="4 bytes; max_message allows 3"):
        Draft.of("éé").check_size(3)


def message(kind: Kind = Kind.TEXT, data: bytes = b"hi", key: str | None = None) -> Message:
    return Message("chat", "e", 7, kind, data, key)


def test_a_message_weighs_payload_and_key_and_what_holds_them() -> None:
    assert message(data=b"12345", key="abc").weight == 5 + 3 + OVERHEAD


def test_whom_a_message_excludes_weighs_too_before_and_after_it_has_a_position() -> None:
    draft = Draft(Kind.TEXT, b"12345", "abc", exclude="someone")
    assert draft.weight == 5 + 3 + 7 + OVERHEAD
    assert Message("chat", "e", 7, draft.kind, draft.data, draft.key, draft.exclude).weight == draft.weight


def test_a_position_is_written_epoch_colon_offset() -> None:
    assert message().position == Position("e", 7)
    assert str(message().position) == "e:7"


def test_an_encoding_is_made_once_and_anew_when_forgotten() -> None:
    calls: list[Message] = []

    def encode(each: Message) -> bytes:
        calls.append(each)
        return each.data

    one = message()
    assert one.encoded(encode) is one.encoded(encode)
    assert len(calls) == 1
    one.forget_encodings()
    assert one.encoded(encode) == b"hi"
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("kind", "data", "payload"),
    [(Kind.TEXT, b"", ""), (Kind.JSON, b"[1]", "[1]"), (Kind.BINARY, b"", b""), (Kind.BINARY, b"\xff", b"\xff")],
)
def test_the_raw_payload_is_text_for_text_and_json_and_bytes_for_binary(
    kind: Kind, data: bytes, payload: str | bytes
) -> None:
    assert raw.payload(message(kind, data)) == payload
