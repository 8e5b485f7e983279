"""Which requests are refused before any handler hears of them: plain decisions on a request's head.

It never answers, and never sees a body.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import h11

VERSIONS = {b"1.0", b"1.1"}
# Read as text on the way to a handler, which is ASCII by their grammar (RFC 9110, 5.5 and RFC 6455, 4.1).
HANDSHAKE_HEADERS = {b"connection", b"upgrade"}
HANDSHAKE_PREFIX = b"sec-websocket-"


Headers = Sequence[tuple[bytes, bytes]]


def refusal(request: h11.Request, headers: Headers, max_header: int) -> int | None:
    """Return the status to refuse `request` with, or None to serve it.

    `headers` are the request's, their names in lower case; `max_header` is in bytes.
    """
    if request.http_version not in VERSIONS:
        return 400  # such as the first line of HTTP/2 by prior knowledge, which is not spoken in plain text
    if request.method == b"CONNECT":
        return 405
    if head_size(request, headers) > max_header:
        return 431
    if not sound_target(request.target) or not b"".join(_values(headers, b"host")).isascii():
        return 400
    if wants_websocket(request, headers) and not _handshake_is_ascii(headers):
        return 400
    return None


def head_size(request: h11.Request, headers: Headers) -> int:
    """Return the bytes of the request's line and headers, with what separates them."""
    line = len(request.method) + len(request.target) + len(b"  HTTP/1.1\r\n")
    return line + sum([len(name) + len(value) + len(b": \r\n") for name, value in headers])


def sound_target(target: bytes) -> bool:
    """Say whether a request's target is a path, `*`, or an address that frameworks can take apart (RFC 9112, 3.2)."""
    if target.startswith(b"/") or target == b"*":
        return True
    try:
        address = urlsplit(unquote(target.decode("ascii")))
    except ValueError:  # UnicodeDecodeError is one
        return False
    return bool(address.scheme and address.netloc)


def wants_websocket(request: h11.Request, headers: Headers) -> bool:
    """Say whether `request` asks to become a WebSocket."""
    if request.method != b"GET":
        return False
    tokens = b",".join(_values(headers, b"connection")).lower().split(b",")
    upgrades = [value.strip().lower() for value in _values(headers, b"upgrade")]
    return upgrades == [b"websocket"] and b"upgrade" in map(bytes.strip, tokens)


def _handshake_is_ascii(headers: Headers) -> bool:
    return all(
        value.isascii() for name, value in headers if name in HANDSHAKE_HEADERS or name.startswith(HANDSHAKE_PREFIX)
    )


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
