from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import InvalidGroupName
from triocast.core.names import RULE, check_group_name, namespace_of

ALLOWED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "/*&{}")


@given(st.text(ALLOWED, min_size=1, max_size=255))
def test_printable_ascii_without_the_forbidden_is_a_name(name: str) -> None:
    assert check_group_name(name) == name


@given(st.text(max_size=300))
def test_any_text_is_accepted_exactly_when_the_rule_says_so(name: str) -> None:
    expected = 1 <= len(name) <= 255 and all(char in ALLOWED for char in name)
    try:
        check_group_name(name)
    except InvalidGroupName as error:
        assert not expected
        assert RULE in str(error)
        assert str(error).isascii()
    else:
        assert expected


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a*", "a&b", "{a", "a}", "é", "a\n", "\x7f", "x" * 256])
def test_what_breaks_the_rule_is_refused(name: str) -> None:
    with pytest.raises(InvalidGroupName):
        check_group_name(name)


def test_a_long_bad_name_is_not_quoted_whole() -> None:
    with pytest.raises(InvalidGroupName) as caught:
        check_group_name("é" * 10_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "namespace"), [("chat", ""), ("chat:1", "chat"), (":x", ""), ("a:b:c", "a"), ("$#,", "")]
)
def test_the_first_colon_ends_the_namespace(name: str, namespace: str) -> None:
    assert namespace_of(name) == namespace
