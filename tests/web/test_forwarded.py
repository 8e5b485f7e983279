"""Whose X-Forwarded-* headers are believed, and what is taken from them."""

from __future__ import annotations

from typing import Any

import pytest

from triocast.web import Forwarded
from triocast.web.forwarded import PROXIED

Scope = dict[str, Any]


async def through(trusted: list[str], scope: Scope) -> Scope:
    """Return the scope that the application behind the middleware gets."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope)

    await Forwarded(app, trusted)(scope, None, None)
    return seen[0]


def scope(peer: str | None, *headers: tuple[str, str], kind: str = "http", scheme: str = "http") -> Scope:
    named = [("Host", "inner:8000"), *headers]
    encoded = [(name.encode(), value.encode("latin1")) for name, value in named]
    return {"type": kind, "scheme": scheme, "client": (peer, 1234) if peer else None, "headers": encoded}


def host(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name.lower() == b"host"]


async def test_a_trusted_proxy_tells_client_scheme_and_host() -> None:
    given = scope(
        "10.0.0.1",
        ("X-Forwarded-For", "9.9.9.9, 8.8.8.8"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "push.example"),
    )
    seen = await through(["10.0.0.0/8"], given)
    assert seen["client"] == ("8.8.8.8", 0)
    assert seen["scheme"] == "https"
    assert host(seen) == [b"push.example"]
    assert seen[PROXIED] is True
    assert host(given) == [b"inner:8000"]  # the server's own scope is left as it was


@pytest.mark.parametrize("peer", ["11.0.0.1", "nonsense", "::1", None])
async def test_nobody_else_is_believed(peer: str | None) -> None:
    given = scope(peer, ("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "x"))
    assert await through(["10.0.0.0/8"], given) == given


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),  # 6.6.6.6 is what 9.9.9.9 claims
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("9.9.9.9:555", "9.9.9.9"),
        ("[2001:db8::1]:555", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("6.6.6.6, unknown", "10.0.0.1"),
        ("6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("", "10.0.0.1"),
    ],
)
async def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(hops: str, client: str) -> None:
    seen = await through(["10.0.0.0/8"], scope("10.0.0.1", ("X-Forwarded-For", hops)))
    assert seen["client"][0] == client


async def test_several_headers_are_one_list() -> None:
    given = scope("10.0.0.1", ("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9"))
    assert (await through(["10.0.0.1"], given))["client"] == ("9.9.9.9", 0)


async def test_of_several_schemes_and_hosts_the_nearest_proxys_counts() -> None:
    given = scope("10.0.0.1", ("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "evil.example, push.example"))
    seen = await through(["10.0.0.1"], given)
    assert (seen["scheme"], host(seen)) == ("http", [b"push.example"])


async def test_nonsense_from_a_trusted_proxy_changes_nothing() -> None:
    given = scope("10.0.0.1", ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a b"))
    seen = await through(["10.0.0.1"], given)
    assert (seen["scheme"], host(seen)) == ("http", [b"inner:8000"])


async def test_a_unix_sockets_peer_is_trusted_as_unix() -> None:
    given = scope(None, ("X-Forwarded-For", "9.9.9.9"))
    assert (await through(["unix"], given))["client"] == ("9.9.9.9", 0)
    assert await through(["127.0.0.1"], given) == given


@pytest.mark.parametrize(("said", "meant"), [("https", "wss"), ("http", "ws"), ("wss", "wss"), ("ws", "ws")])
async def test_a_websockets_scheme_is_ws_or_wss_whoever_said_it(said: str, meant: str) -> None:
    # Hypercorn's ProxyFixMiddleware says https, and Quart would take the handshake for a request.
    assert (await through([], scope("9.9.9.9", kind="websocket", scheme=said)))["scheme"] == meant
    proxied = scope("10.0.0.1", ("X-Forwarded-Proto", said), kind="websocket", scheme="ws")
    assert (await through(["10.0.0.1"], proxied))["scheme"] == meant


async def test_what_is_no_request_passes() -> None:
    assert await through(["10.0.0.1"], {"type": "lifespan"}) == {"type": "lifespan"}
