"""Addresses to listen on."""

import pytest

from triocast.settings import Address, parse_address
from triocast.settings.address import MAX_UNIX_PATH


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("push.example.org:80", Address("push.example.org", 80)),
        ("unix:/run/x:y.sock", Address(path="/run/x:y.sock")),
    ],
)
def test_an_address_is_parsed_and_spelled_as_it_was(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8000", "expected HOST:PORT"),
        ("127.0.0.1", "expected HOST:PORT"),
        ("::1:8000", "expected HOST:PORT"),
        ("http://localhost:80", "expected HOST:PORT"),
        ("localhost:http", "expected HOST:PORT"),
        (":8000", "0.0.0.0 for every interface"),
        ("a b:1", "host name"),
        ("-x:1", "host name"),
        ("[localhost]:1", "IPv6"),
        ("localhost:65536", "0 to 65535"),
        ("unix:", "path after unix:"),
        ("unix:" + "x" * (MAX_UNIX_PATH + 1), "at most"),
    ],
)
def test_what_is_no_address_is_refused_saying_what_was_expected(text, told):
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "LocalHost:1", "unix:/x"],
)
def test_only_this_machine_reaches_a_loopback_address(text):
    assert parse_address(text).is_loopback


@pytest.mark.parametrize(
    "text", ["0.0.0.0:1", "[::]:1", "128.0.0.1:1", "[::ffff:10.0.0.1]:1", "localhost.example.org:1", "127.1:1", "0:1"]
)
def test_anything_else_is_taken_for_reachable_from_outside(text):
    assert not parse_address(text).is_loopback
