"""Gathers the facts that the access rules want from the request in hand, and puts their verdict as an answer."""

from __future__ import annotations

from collections.abc import Iterator

from quart import Response, request

from triocast.core.access import Caller, Denial, Lock, is_proxy_header
from triocast.problems import answer
from triocast.settings import Settings
from triocast.web.forwarded import PROXIED


def caller() -> Caller:
    """Return what the current request says of where it comes from."""
    scope, headers = request.scope, request.headers
    return Caller(
        method=request.method,
        keys=tuple(_keys()),
        server=_address(scope.get("server")),
        peer=_address(scope.get("client")),
        host=headers.get("Host", ""),
        old_http=scope.get("http_version", "1.1") < "1.1",
        forwarded=bool(scope.get(PROXIED)) or any(is_proxy_header(name) for name, _ in headers),
        origins=tuple(headers.getlist("Origin")),
        fetch_site=headers.get("Sec-Fetch-Site"),
    )


def lock(settings: Settings) -> Lock:
    """Return what the settings say about who may publish and look."""
    return Lock(settings.api_key, settings.allowed_origins, settings.insecure)


def denied(denial: Denial | None) -> Response | None:
    """Return the answer that a denial is."""
    if denial is None:
        return None
    headers = {401: {"WWW-Authenticate": 'Bearer realm="triocast"'}, 405: {"Allow": "POST, OPTIONS"}}
    return answer(denial.status, denial.code, denial.message, headers.get(denial.status))


def _keys() -> Iterator[str]:
    for value in request.headers.getlist("Authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()
    yield from request.headers.getlist("X-API-Key")


def _address(place: object) -> str | None:
    # ASGI servers give None for a Unix socket, or its path with no port.
    match place:
        case (str(address), int()):
            return address
        case _:
            return None
