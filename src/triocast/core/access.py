"""Who may connect, publish and look: the rules about origins, keys and loopback, on facts that the caller gathers.

It knows neither Quart nor sockets, and looks up no name.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Every request asks the same of the same few hosts and addresses; together what is remembered stays below 100 KB.
KNOWN = 256
LONGEST = 300  # characters; what is longer is no address, and not worth remembering as a host

_LABEL = "[a-z0-9_-]{1,63}"
_HOST = re.compile(
    rf"(?P<name>{_LABEL}(\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?", re.ASCII | re.IGNORECASE
)
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>.+)", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}

# What says that a proxy handed the request on, beside everything that begins with x-forwarded-.
_PROXY_HEADERS = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
    }
)


@dataclass(frozen=True, slots=True)
class Host:
    """A host as a Host header or an origin names it: lower case, no trailing dot; `port` is None if not given."""

    name: str
    port: int | None

    @property
    def is_loopback(self) -> bool:
        """Whether the name can mean this machine only: localhost, *.localhost (RFC 6761), 127.0.0.0/8 and ::1."""
        return self.name == "localhost" or self.name.endswith(".localhost") or is_loopback_address(self.name)


def header_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return the values of all headers called `name`, which is in lower case."""
    return [value.decode("latin1") for key, value in headers if key.lower() == name]


def parse_host(text: str) -> Host | None:
    """Return the host that `text` names, or None if it names none."""
    return _parse_host(text) if len(text) <= LONGEST else _parse_host.__wrapped__(text)


@lru_cache(KNOWN)
def _parse_host(text: str) -> Host | None:
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    name = match["name"].lower().removesuffix(".")
    if name.startswith("["):
        try:
            name = str(ipaddress.IPv6Address(name[1:-1]))  # one spelling for each address
        except ValueError:
            return None
    port = int(match["port"]) if match["port"] else None
    return Host(name, port) if name and (port or 0) <= 65_535 else None


def is_loopback_address(address: str) -> bool:
    """Whether `address` is an IP address that only this machine can use."""
    return len(address) <= LONGEST and _is_loopback_address(address)


@lru_cache(KNOWN)
def _is_loopback_address(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A socket for both families shows 127.0.0.1 as ::ffff:127.0.0.1, which older Pythons don't call loopback.
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def is_proxy_header(name: str) -> bool:
    """Whether a header of this name says that a proxy handed the request on."""
    lower = name.lower()
    return lower in _PROXY_HEADERS or lower.startswith("x-forwarded-")


def allowed_origin(origins: Sequence[str], host: str, allowed: Sequence[str]) -> bool:
    """Whether a page of this origin may use us: it is our own (its host and port are those of `host`) or is `allowed`.

    `origins` are all Origin headers of a request: none means that no browser sent it, and is let in. A `host` without
    a port has the default port of the origin's scheme, since behind a TLS proxy we don't know our own. An `allowed`
    of `*` allows every well-formed origin, but never `null`, which is what a sandboxed page of anybody sends.
    """
    if not origins:
        return True
    origin = _parse_origin(origins[0]) if len(origins) == 1 else None
    if origin is None:
        return False
    return _is_own(origin, host) or "*" in allowed or origin in map(_parse_origin, allowed)


_Origin = tuple[str, str, int | None]  # scheme, host, port with the default filled in


def _parse_origin(text: str) -> _Origin | None:
    match = _ORIGIN.fullmatch(text)
    host = parse_host(match["host"]) if match else None
    if match is None or host is None:
        return None
    scheme = match["scheme"].lower()
    return scheme, host.name, _DEFAULT_PORTS.get(scheme) if host.port is None else host.port


def _is_own(origin: _Origin, host: str) -> bool:
    scheme, name, port = origin
    own = parse_host(host)
    if own is None or scheme not in _DEFAULT_PORTS:  # a packaged app's capacitor://localhost is not our localhost
        return False
    return (name, port) == (own.name, _DEFAULT_PORTS[scheme] if own.port is None else own.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a request says of where it comes from.

    `keys` are all that it presented. `server` is the address of our socket, None for a Unix socket; `peer` that of
    the other side, None if there is none. `old_http` is a version below 1.1.
    """

    method: str = "GET"
    keys: tuple[str, ...] = ()
    server: str | None = None
    peer: str | None = None
    host: str = ""
    old_http: bool = False
    forwarded: bool = False
    origins: tuple[str, ...] = ()
    fetch_site: str | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """What the settings say about publishing and looking: the key that is needed, or who may do without one."""

    api_key: str | None = None
    allowed_origins: tuple[str, ...] = ()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not: an HTTP status, a code for machines, and a message that says what to do."""

    status: int
    code: str
    message: str


def deny_publish(caller: Caller, lock: Lock) -> Denial | None:
    """Return why `caller` may not publish, or None if it may.

    With a key GET is off: what publishes by being looked at ends up in histories, previews and logs, the key with it.
    """
    if caller.method in ("GET", "HEAD") and lock.api_key is not None:
        return Denial(405, "method_not_allowed", "with an api_key, publish by POST: GET is for trying things out")
    return deny(caller, lock)


def deny(caller: Caller, lock: Lock) -> Denial | None:
    """Return why `caller` may not use what needs the key, or None if it may."""
    if lock.api_key is not None:
        return _check_key(caller.keys, lock.api_key)
    return _check_web_page(caller, lock) or (None if lock.insecure else _check_loopback(caller))


def _check_key(keys: Sequence[str], api_key: str) -> Denial | None:
    if not keys:
        return Denial(401, "key_required", "send the key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
    expected = api_key.encode()
    if any(hmac.compare_digest(key.encode(errors="surrogatepass"), expected) for key in keys):
        return None
    return Denial(403, "wrong_key", "the key is wrong: send the one that is set as api_key (TRIOCAST_API_KEY)")


def _check_web_page(caller: Caller, lock: Lock) -> Denial | None:
    """A page that a browser on this machine has open can reach loopback too."""
    # "*" lets every page listen; to publish without a key an origin has to be named.
    named = [origin for origin in lock.allowed_origins if origin != "*"]
    if caller.fetch_site == "cross-site" or not allowed_origin(caller.origins, caller.host, named):
        return Denial(403, "foreign_origin", f"pages of other sites may not do this without a key; {_SET_A_KEY}")
    return None


def _check_loopback(caller: Caller) -> Denial | None:
    if caller.old_http:
        # nginx, as it comes, says nothing of itself, asks for its upstream's own name, and speaks HTTP/1.0.
        return Denial(403, "key_required", f"without a key, use HTTP/1.1: proxies speak 1.0; {_SET_A_KEY}")
    if caller.forwarded:
        return Denial(
            403, "key_required", f"without a key, requests that came by a proxy may not do this; {_SET_A_KEY}"
        )
    for address in (caller.server, caller.peer):
        if address is not None and not is_loopback_address(address):
            return Denial(403, "key_required", f"without a key, only this machine may do this; {_SET_A_KEY}")
    host = parse_host(caller.host)
    if caller.server is not None and (host is None or not host.is_loopback):
        return Denial(
            403, "foreign_host", f"without a key, ask for localhost or 127.0.0.1 by name (Host header); {_SET_A_KEY}"
        )
    return None


_SET_A_KEY = "set api_key (TRIOCAST_API_KEY) on the server and send it"
