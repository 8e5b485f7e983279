"""Gathers the facts that the access rules want from a request's ASGI scope, and puts their verdict as an answer."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, request

from triocast.core.access import Caller, Denial, Lock, deny, is_proxy_header
from triocast.problems import answer
from triocast.settings import Settings
from triocast.web.forwarded import PROXIED


def caller(scope: Any) -> Caller:
    """Return what a request says of where it comes from."""
    keys: list[str] = []
    origins: list[str] = []
    host, fetch_site, forwarded = "", None, bool(scope.get(PROXIED))
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.lower()
        if name in _PLAIN:
            continue
        value = raw_value.decode("latin1")
        if name == b"host":
            host = value
        elif name == b"authorization":
            scheme, _, key = value.partition(" ")
            keys += [key.strip()] if scheme.lower() == "bearer" else []
        elif name == b"x-api-key":
            keys.append(value)
        elif name == b"origin":
            origins.append(value)
        elif name == b"sec-fetch-site":
            fetch_site = value
        elif is_proxy_header(name.decode("latin1")):
            forwarded = True
    return Caller(
        method=scope["method"],
        keys=tuple(keys),
        server=_address(scope.get("server")),
        peer=_address(scope.get("client")),
        host=host,
        old_http=scope.get("http_version", "1.1") < "1.1",
        forwarded=forwarded,
        origins=tuple(origins),
        fetch_site=fetch_site,
    )


def lock(settings: Settings) -> Lock:
    """Return what the settings say about who may publish and look."""
    return Lock(settings.api_key, settings.allowed_origins, settings.insecure)


def guard(blueprint: Blueprint, settings: Settings) -> None:
    """Let only those use the routes of `blueprint` who may publish."""

    @blueprint.before_request
    async def check() -> Response | None:
        denial = deny(caller(request.scope), lock(settings))
        return None if denial is None else denied(denial)


def denied(denial: Denial) -> Response:
    """Return the answer that a denial is."""
    headers = {401: {"WWW-Authenticate": 'Bearer realm="triocast"'}, 405: {"Allow": "POST, OPTIONS"}}
    return answer(denial.status, denial.code, denial.message, headers.get(denial.status))


# What most requests carry and no rule looks at.
_PLAIN = frozenset({b"accept", b"accept-encoding", b"connection", b"content-length", b"content-type", b"user-agent"})


def _address(place: object) -> str | None:
    # ASGI servers give None for a Unix socket, or its path with no port.
    match place:
        case (str(address), int()):
            return address
        case _:
            return None
