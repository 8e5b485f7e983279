"""What `triocast serve` says when it is ready."""

from __future__ import annotations

import pytest

from triocast import GroupSettings, Settings
from triocast.serve.welcome import welcome
from triocast.settings.address import Address

PAGE = "  try       http://127.0.0.1:8000/ in a browser"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_page_is_the_first_thing_to_try_where_there_is_one(host: str) -> None:
    lines = welcome(Settings(insecure=True), [Address(host, 8000)]).splitlines()
    assert lines[1:4] == ["    http://127.0.0.1:8000", "", PAGE]


def test_with_a_key_there_is_none() -> None:
    assert "in a browser" not in welcome(Settings(api_key="s3cret"), [Address("127.0.0.1", 8000)])


def test_a_unix_socket_is_nothing_for_a_browser() -> None:
    assert "in a browser" not in welcome(Settings(), [Address("", 0, path="/run/triocast.sock")])


def test_the_operator_is_told_what_needs_no_key() -> None:
    where = [Address("127.0.0.1", 8000)]
    known = "Subscribing needs no key, nor does asking who is in a group (see presence).\n"
    assert known in welcome(Settings(api_key="s3cret"), where)
    assert "Subscribing needs no key.\n" in welcome(Settings(presence=False), where)
    some = Settings(presence=False, namespaces={"chat": GroupSettings(presence=True)})
    assert known in welcome(some, where)
