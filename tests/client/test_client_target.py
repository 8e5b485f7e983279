"""Where a server is, and the paths below it."""

import pytest

from triocast.client import InvalidURL
from triocast.client.target import Target, parse_url


@pytest.mark.parametrize(
    ("url", "target", "shown"),
    [
        ("http://127.0.0.1:8000", Target("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        ("ws://localhost", Target("localhost", 80), "http://localhost"),
        ("https://x.org/push/", Target("x.org", 443, tls=True, prefix="/push"), "https://x.org/push"),
        ("wss://[::1]:8443", Target("::1", 8443, tls=True), "https://[::1]:8443"),
        ("unix:/run/t.sock", Target("localhost", 0, path="/run/t.sock"), "unix:/run/t.sock"),
    ],
)
def test_a_url_names_a_server(url, target, shown):
    assert parse_url(url) == target
    assert str(target) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x:70000",
        "http://[::1",
        "http://u:p@x",
        "http://x/?a",
        "http://x/#a",
        "http://x y",
        "http://x/\r\nHost: y",
        "http://ü.org",
        "unix:",
    ],
)
def test_what_names_no_server_is_refused(url):
    with pytest.raises(InvalidURL, match=r"address of a server|path after unix"):
        parse_url(url)


def test_group_names_are_percent_encoded_in_paths():
    target = parse_url("http://x/push")
    assert target.publish_path("user:1#?%") == "/push/publish/user%3A1%23%3F%25"
    assert target.listen_path("sse", ["a+b", "c,d"], "json") == "/push/sse?group=a%2Bb&group=c%2Cd&format=json"


def test_the_host_header_leaves_out_a_default_port():
    assert parse_url("http://x:80").host_header == "x"
    assert parse_url("https://x:80").host_header == "x:80"
    assert parse_url("http://[::1]:8000").host_header == "[::1]:8000"
    assert parse_url("unix:/x").host_header == "localhost"
