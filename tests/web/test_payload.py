"""From content types, bodies and queries to messages."""

from __future__ import annotations

import contextlib
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import InvalidMessage, Kind
from triocast.errors import UnsupportedKind
from triocast.web import query
from triocast.web.payload import MULTIPART_OVERHEAD, URLENCODED, body_limit, from_body, from_query

FORM = f"{URLENCODED}; charset=utf-8"
MULTIPART = "multipart/form-data; boundary=XX"


def part(name: str, value: str, extra: str = "") -> bytes:
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{value}\r\n'.encode()


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "data"),
    [
        ("", b"hello", Kind.TEXT, b"hello"),
        ("", b"", Kind.TEXT, b""),
        ("text/plain", b" hello\r\n", Kind.TEXT, b" hello\r\n"),
        ("text/html; charset=UTF-8", "grüße".encode(), Kind.TEXT, "grüße".encode()),
        ('text/plain; charset="us-ascii"', b"a", Kind.TEXT, b"a"),
        ("TEXT/Plain", b"a", Kind.TEXT, b"a"),
        ("application/json", b' {"a": 1.0}\n', Kind.JSON, b' {"a": 1.0}\n'),
        ("application/json", b'{"msg": "hello"}', Kind.JSON, b'{"msg": "hello"}'),
        ("application/json; charset=utf-8", b"null", Kind.JSON, b"null"),
        ("application/ld+json", b"[]", Kind.JSON, b"[]"),
        ("application/octet-stream", b"\x00\xff", Kind.BINARY, b"\x00\xff"),
        ("application/octet-stream", b"", Kind.BINARY, b""),
        (URLENCODED, b"hello & bye", Kind.TEXT, b"hello & bye"),
        (URLENCODED, b"hello%20world", Kind.TEXT, b"hello%20world"),
        (URLENCODED, b'{"json": "by curl -d"}', Kind.TEXT, b'{"json": "by curl -d"}'),
        (URLENCODED, b"", Kind.TEXT, b""),
        (URLENCODED, b"msg", Kind.TEXT, b"msg"),
        (URLENCODED, b"message=hi", Kind.TEXT, b"message=hi"),
        (URLENCODED, b"msg=hi&to=you", Kind.TEXT, b"msg=hi&to=you"),
        (URLENCODED, b"msg=a&msg=b", Kind.TEXT, b"msg=a&msg=b"),
        (URLENCODED, b"msg=hello+world", Kind.TEXT, b"hello world"),
        (FORM, b"msg=100%25+%26+a=b", Kind.TEXT, b"100% & a=b"),
        (FORM, b"msg=", Kind.TEXT, b""),
        (FORM, b"msg=100%", Kind.TEXT, b"100%"),
        (MULTIPART, part("msg", "hello\r\nworld") + b"--XX--\r\n", Kind.TEXT, b"hello\r\nworld"),
        (MULTIPART, part("msg", "") + b"--XX--", Kind.TEXT, b""),
    ],
)
def test_a_body_becomes_the_message_its_type_says(content_type: str, body: bytes, kind: Kind, data: bytes) -> None:
    draft = from_body(content_type, body)
    assert (draft.kind, draft.data) == (kind, data)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", b""),
        ("application/xml", b"<a/>"),
        ("garbage", b"a"),
        ("text/plain; charset=iso-8859-1", b"a"),
        (f"{URLENCODED}; charset=utf-16", b"a"),
        (MULTIPART, part("message", "hi") + b"--XX--"),
        (MULTIPART, part("msg", "hi") + part("msg", "ho") + b"--XX--"),
        (MULTIPART, part("msg", "hi", '; filename="a.txt"') + b"--XX--"),
        (MULTIPART, b"--XX--\r\n"),
    ],
)
def test_other_types_are_refused_and_what_is_accepted_is_said(content_type: str, body: bytes) -> None:
    with pytest.raises(UnsupportedKind, match=r"accepted are text/\*|send UTF-8"):
        from_body(content_type, body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b"\xff"),
        ("text/plain", b"\xc3"),
        (URLENCODED, b"msg=%ff"),
        ("application/json", b""),
        ("application/json", b"hello"),
        ("application/json", b'{"a": "\xff"}'),
        (MULTIPART, part("msg", "hi")),
        (MULTIPART, b"no form"),
        ("multipart/form-data", b"no boundary"),
        (MULTIPART, b"--XX\r\n\r\nno disposition\r\n--XX--"),
    ],
)
def test_what_is_not_what_it_says_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        from_body(content_type, body)


def test_whoever_sends_text_as_json_is_told_how_to_send_text() -> None:
    with pytest.raises(InvalidMessage, match="text/plain"):
        from_body("application/json", b"hello")


@given(st.text())
def test_a_form_carries_any_text(text: str) -> None:
    assert from_body(URLENCODED, urlencode({"msg": text}).encode()).data == text.encode()
    assert from_query(urlencode({"msg": text}).encode()).data == text.encode()


@given(st.sampled_from(["", "text/plain", "application/json", URLENCODED, MULTIPART, "x/y"]), st.binary())
def test_no_body_makes_anything_but_a_message_or_an_error_of_ours(content_type: str, body: bytes) -> None:
    with contextlib.suppress(UnsupportedKind, InvalidMessage):
        draft = from_body(content_type, body)
        assert draft.data == body or content_type in (URLENCODED, MULTIPART)


@pytest.mark.parametrize(("asked", "text"), [(b"msg=hello%20world", b"hello world"), (b"_=1&msg=", b""), (b"msg", b"")])
def test_a_query_has_its_text_in_msg(asked: bytes, text: bytes) -> None:
    assert from_query(asked).data == text


@pytest.mark.parametrize("asked", [b"", b"message=hi", b"msg=a&msg=b", b"msg=%ff"])
def test_a_query_without_exactly_one_text_is_refused(asked: bytes) -> None:
    with pytest.raises(InvalidMessage):
        from_query(asked)


@given(st.binary(min_size=1, max_size=200))
def test_a_form_of_the_largest_message_is_within_the_limit_of_a_body(data: bytes) -> None:
    assert len(b"msg=" + quote_from_bytes(data, safe="").encode()) <= body_limit(FORM, len(data))


def test_other_bodies_are_limited_to_the_message_itself() -> None:
    assert body_limit("", 1000) == body_limit("application/json; charset=utf-8", 1000) == 1000
    assert body_limit(MULTIPART, 1000) == 1000 + MULTIPART_OVERHEAD


@pytest.mark.parametrize("shift", range(5))
def test_a_long_value_is_decoded_as_if_at_once(shift: int) -> None:
    plain = b"x" * shift + b"\x00%\xff" * (query.BLOCK // 3)
    encoded = b"x" * shift + b"%00%25%FF" * (query.BLOCK // 3)
    assert query.decode(encoded) == plain


def test_percent_signs_without_an_escape_stand_for_themselves_wherever_they_are() -> None:
    lone = b"%" * (2 * query.BLOCK + 1) + b"4"
    assert query.decode(lone) == lone


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary())))
def test_fields_survive_encoding_in_their_order(pairs: list[tuple[bytes, bytes]]) -> None:
    encoded = "&".join(f"{quote_from_bytes(name)}={quote_from_bytes(value)}" for name, value in pairs)
    assert query.fields(encoded.encode()) == pairs
