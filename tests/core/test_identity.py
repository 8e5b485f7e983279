"""Who a connection is: what may name a user, and what may be said of a client."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import InvalidIdentity
from triocast.core.identity import ANONYMOUS, MAX_INFO, MAX_NESTING, MAX_USER, Identity, check_user


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("user", ["a", "ann@example.org", "Zoë Müller", "a/b c", "..", "🙂" * MAX_USER])
def test_a_user_is_any_short_text(user: str) -> None:
    assert check_user(user) == user
    assert Identity.of(user) == Identity(user, None, claimed=False)


@pytest.mark.parametrize("user", ["", "x" * (MAX_USER + 1), "a\nb", "a\x00", "a\x7f", "\x85", "\ud800", 7, b"ann"])
def test_nothing_else_is_a_user(user: Any) -> None:
    with pytest.raises(InvalidIdentity, match="1 to 255 characters"):
        Identity.of(user)


@pytest.mark.parametrize("info", [{"name": "Ann"}, '{ "name":\n"Ann" }', b'{"name":"Ann"}'])
def test_info_is_a_json_object_however_it_is_given_and_is_kept_compact(info: Any) -> None:
    assert Identity.of("ann", info) == Identity("ann", b'{"name":"Ann"}', claimed=False)
    assert Identity.of(None, info, claimed=True) == Identity(None, b'{"name":"Ann"}', claimed=True)


def test_info_has_room_for_so_many_bytes_and_no_more() -> None:
    fits = {"name": "x" * (MAX_INFO - len('{"name":""}'))}
    info = Identity.of(None, fits).info
    assert info is not None
    assert len(info) == MAX_INFO
    assert Identity.of(None, info).info == info
    for too_long in ({"name": fits["name"] + "x"}, info + b" ", " " * 1_000_000, {"name": "é" * (MAX_INFO // 2)}):
        with pytest.raises(InvalidIdentity, match="1024 bytes"):
            Identity.of(None, too_long)


@pytest.mark.parametrize(
    "info",
    ["", "{", "null", "[]", '"Ann"', "1", b"\xff", '{"a":"\\ud800"}', "{'a':1}", '{"a":1}x', {"a": object()}, 7, []],
)
def test_what_is_no_json_object_is_no_info(info: Any) -> None:
    with pytest.raises(InvalidIdentity, match="JSON object"):
        Identity.of("ann", info)


@pytest.mark.parametrize("depth", [MAX_NESTING + 2, 170])
@pytest.mark.parametrize("claimed", [True, False])
def test_info_is_not_nested_more_deeply_than_readers_can_follow(depth: int, claimed: bool) -> None:
    with pytest.raises(InvalidIdentity):
        Identity.of(None, nested(depth), claimed=claimed)
    with pytest.raises(InvalidIdentity):
        Identity.of(None, '{"a":' + "[" * 500 + "]" * 500 + "}")
    assert Identity.of(None, nested(MAX_NESTING)).info == nested(MAX_NESTING).encode()


def test_who_says_nothing_is_anonymous_and_claims_nothing() -> None:
    assert Identity.of() is ANONYMOUS
    assert Identity.of(claimed=True) is ANONYMOUS
    assert not Identity.of("ann", claimed=True).claimed


@given(st.text(max_size=300))
def test_whatever_is_taken_as_a_user_can_be_sent_as_text_on_one_line(user: str) -> None:
    try:
        checked = check_user(user)
    except InvalidIdentity:
        return
    assert checked.encode().decode() == user
    assert "\n" not in user
    assert "\r" not in user


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_whatever_is_taken_as_info_is_an_object_again(info: Any) -> None:
    try:
        taken = Identity.of(None, info).info
    except InvalidIdentity:
        return
    assert taken is not None
    assert isinstance(msgspec.json.decode(taken), dict)
    assert b"\n" not in taken
