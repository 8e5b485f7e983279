"""The rules about origins, keys and loopback, as tables and properties."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.core.access import (
    Caller,
    Lock,
    allowed_origin,
    deny,
    deny_publish,
    is_proxy_header,
    parse_host,
)

LOCAL = Caller(method="POST", server="127.0.0.1", peer="127.0.0.1", host="127.0.0.1:8000")
OPEN = Lock()
LOCKED = Lock(api_key="s3cret")

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
hosts = names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
ports = st.none() | st.integers(1, 65535)


def with_port(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


@given(hosts, ports, st.sampled_from(["http", "https"]))
def test_a_page_of_our_own_host_and_port_is_let_in(host: str, port: int | None, scheme: str) -> None:
    assert allowed_origin([f"{scheme}://{with_port(host, port)}"], with_port(host, port), [])


@given(hosts, hosts, ports)
def test_a_page_of_another_host_is_not(ours: str, theirs: str, port: int | None) -> None:
    assert allowed_origin([f"http://{with_port(theirs, port)}"], with_port(ours, port), []) == (ours == theirs)


@given(st.lists(st.text(), min_size=1, max_size=2), st.text())
def test_no_origin_however_strange_makes_the_rule_fail(origins: list[str], host: str) -> None:
    assert allowed_origin(origins, host, []) in (True, False)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("https://push.example", "push.example", True),  # TLS ends at a proxy: our scheme is not known
        ("http://push.example", "push.example", True),
        ("https://push.example", "push.example:443", True),
        ("https://push.example:443", "push.example", True),
        ("http://push.example", "push.example:443", False),
        ("https://push.example", "push.example:80", False),
        ("https://PUSH.example", "push.Example.", True),
        ("https://push.example.", "push.example", True),
        ("http://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", True),
        ("http://[::1]:8000", "[::2]:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://push.example.evil", "push.example", False),
        ("http://push.example@evil", "push.example", False),
        ("http://evil#push.example", "push.example", False),
        ("http://push.example/", "push.example", False),
        ("capacitor://localhost", "localhost", False),
        ("null", "localhost", False),
        ("", "localhost", False),
        ("push.example", "push.example", False),
        ("http://", "", False),
        ("http://push.example", "", False),
        ("http://push.example:99999", "push.example:99999", False),
        ("http://push..example", "push..example", False),
    ],
)
def test_an_origin_is_compared_with_the_host(origin: str, host: str, allowed: bool) -> None:
    assert allowed_origin([origin], host, []) is allowed


def test_no_origin_means_no_browser_and_two_mean_no_good() -> None:
    assert allowed_origin([], "a.example", [])
    assert not allowed_origin(["http://a.example", "http://a.example"], "a.example", ["*"])


def test_the_settings_may_allow_origins_by_name_or_all_but_null() -> None:
    named = ["https://app.example", "capacitor://localhost"]
    assert allowed_origin(["https://app.example"], "push.example", named)
    assert allowed_origin(["https://APP.example:443"], "push.example", named)
    assert allowed_origin(["capacitor://localhost"], "push.example", named)
    assert not allowed_origin(["http://app.example"], "push.example", named)
    assert not allowed_origin(["https://app.example:8443"], "push.example", named)
    assert allowed_origin(["https://anybody.example"], "push.example", ["*"])
    assert not allowed_origin(["null"], "push.example", ["*"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "app.localhost:8000",
        "127.0.0.1",
        "127.8.9.1:80",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_loopback_hosts_are_known(host: str) -> None:
    parsed = parse_host(host)
    assert parsed is not None
    # A name in brackets is kept without them, as addresses are written elsewhere.
    assert parsed.is_loopback
    assert deny(dataclasses.replace(LOCAL, host=host), OPEN) is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"host": "evil.example"}, "foreign_host"),
        ({"host": "localhost.evil.example"}, "foreign_host"),
        ({"host": "notlocalhost"}, "foreign_host"),
        ({"host": "127.0.0.1.nip.io"}, "foreign_host"),
        ({"host": "0.0.0.0:8000"}, "foreign_host"),
        ({"host": ""}, "foreign_host"),
        ({"host": "[::1"}, "foreign_host"),
        ({"server": "192.168.1.5"}, "key_required"),
        ({"server": "::"}, "key_required"),
        ({"server": "push.example"}, "key_required"),
        ({"peer": "192.168.1.6"}, "key_required"),
        ({"forwarded": True}, "key_required"),
        ({"old_http": True}, "key_required"),
        ({"fetch_site": "cross-site"}, "foreign_origin"),
        ({"origins": ("https://evil.example",)}, "foreign_origin"),
        ({"origins": ("null",)}, "foreign_origin"),
    ],
)
def test_without_a_key_only_this_machine_itself_is_let_in(changed: dict[str, object], code: str) -> None:
    denial = deny_publish(dataclasses.replace(LOCAL, **changed), OPEN)  # type: ignore[arg-type]
    assert denial is not None
    assert (denial.status, denial.code) == (403, code)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"method": "GET"},
        {"server": "::1", "peer": "::1", "host": "[::1]:8000"},
        {"server": "::ffff:127.0.0.1", "peer": "::ffff:127.0.0.1"},
        {"server": None, "peer": None, "host": "whatever.example"},  # a Unix socket
        {"origins": ("http://127.0.0.1:8000",), "fetch_site": "same-origin"},
        {"fetch_site": "none"},
    ],
)
def test_without_a_key_this_machine_is_let_in(changed: dict[str, object]) -> None:
    assert deny_publish(dataclasses.replace(LOCAL, **changed), OPEN) is None  # type: ignore[arg-type]


def test_an_origin_may_publish_without_a_key_only_if_it_is_named() -> None:
    page = dataclasses.replace(LOCAL, origins=("http://localhost:3000",), fetch_site="same-site")
    assert deny(page, Lock(allowed_origins=("http://localhost:3000",))) is None
    assert deny(page, Lock(allowed_origins=("*",))) is not None


def test_insecure_opens_it_to_the_network_but_not_to_pages_of_other_sites() -> None:
    insecure = Lock(insecure=True)
    far = Caller(method="POST", server="192.168.1.5", peer="192.168.1.6", host="push.example", forwarded=True)
    assert deny(far, insecure) is None
    assert deny(dataclasses.replace(far, fetch_site="cross-site"), insecure) is not None
    assert deny(dataclasses.replace(far, origins=("https://evil.example",)), insecure) is not None


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ((), 401),
        (("wrong",), 403),
        (("",), 403),
        (("s3cret ",), 403),
        (("S3CRET",), 403),
        (("\udcff\xe9",), 403),
        (("s3cret",), None),
        (("proxy's own", "s3cret"), None),
    ],
)
def test_with_a_key_the_key_decides_and_nothing_else(keys: tuple[str, ...], status: int | None) -> None:
    far = Caller(method="POST", keys=keys, server="192.168.1.5", host="push.example", forwarded=True)
    for caller in (far, dataclasses.replace(LOCAL, keys=keys)):
        denial = deny_publish(caller, LOCKED)
        assert (denial.status if denial else None) == status


@given(st.text(max_size=20))
def test_only_the_key_itself_opens(key: str) -> None:
    assert (deny(Caller(keys=(key,)), LOCKED) is None) == (key == "s3cret")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_with_a_key_publishing_by_get_is_off_and_looking_is_not(method: str) -> None:
    caller = Caller(method=method, keys=("s3cret",))
    denial = deny_publish(caller, LOCKED)
    assert denial is not None
    assert denial.status == 405
    assert "POST" in denial.message
    assert deny(caller, LOCKED) is None


def test_headers_of_proxies_are_known() -> None:
    known = ["Forwarded", "X-Forwarded-For", "x-forwarded-anything", "X-Real-IP", "Via", "CF-Connecting-IP"]
    assert all(is_proxy_header(name) for name in known)
    assert not any(is_proxy_header(name) for name in ["Host", "X-API-Key", "Forward", "Origin", "Viaduct"])
