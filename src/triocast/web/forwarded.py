"""ASGI middleware: believes the X-Forwarded-* headers of trusted proxies, and of nobody else.

It removes no header, so that everything behind it can still see that a request came by a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from triocast.core.access import parse_host

Scope = dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

PROXIED = "triocast.proxied"  # the scope's key: the peer is a trusted proxy, whatever it says
UNIX = "unix"

# ASGI names a WebSocket's scheme ws or wss; proxies, and the middleware of servers, say http or https.
_SCHEMES = {
    "http": {"http": "http", "https": "https", "ws": "http", "wss": "https"},
    "websocket": {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"},
}


class Forwarded:
    """Takes client, scheme and host from the headers of proxies in `trusted`: addresses, networks, or `unix`."""

    def __init__(self, app: App, trusted: Sequence[str]) -> None:
        self._app = app
        self._unix = UNIX in trusted
        self._networks = [ipaddress.ip_network(each) for each in trusted if each != UNIX]

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass the call on, with a scope corrected in a copy."""
        if scope["type"] in _SCHEMES:
            scope = _with_scheme(scope, scope["scheme"])
            if self._trusts((scope.get("client") or (None,))[0]):
                scope = self._believe(scope)
        await self._app(scope, receive, send)

    def _trusts(self, peer: str | None) -> bool:
        if not peer or not self._networks:
            return self._unix and not peer
        address = _parse_address(peer)
        return address is not None and any(address in network for network in self._networks)

    def _believe(self, scope: Scope) -> Scope:
        scope = {**scope, PROXIED: True}
        client = self._client(list(_elements(scope, b"x-forwarded-for")))
        if client is not None:
            scope["client"] = (client, 0)
        # The last element is the one that the proxy itself has written; what is before it, anybody may have.
        *_, proto = "", *_elements(scope, b"x-forwarded-proto")
        *_, host = "", *_elements(scope, b"x-forwarded-host")
        if parse_host(host) is not None:
            others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
            scope["headers"] = [*others, (b"host", host.encode())]
        return _with_scheme(scope, proto.lower())

    def _client(self, hops: list[str]) -> str | None:
        """Return the last hop that is no trusted proxy; each hop is vouched for by the one after it."""
        client = None
        for hop in reversed(hops):
            address = _parse_address(hop)
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client


def _with_scheme(scope: Scope, scheme: str) -> Scope:
    known = _SCHEMES[scope["type"]].get(scheme)
    return scope if known in (None, scope["scheme"]) else {**scope, "scheme": known}


def _elements(scope: Scope, name: bytes) -> Iterator[str]:
    for header, value in scope["headers"]:
        if header.lower() == name:
            yield from (element.strip() for element in value.decode("latin1").split(","))


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address as proxies write it: plain, `[v6]`, or with a port; an IPv4 address in IPv6 is the former."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
