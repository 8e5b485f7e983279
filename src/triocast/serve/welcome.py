"""What `triocast serve` says when it is ready: where to connect, what to type next, and what is open to whom.

Pure text.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from triocast.settings import Settings
from triocast.settings.address import Address


def welcome(settings: Settings, addresses: Sequence[Address]) -> str:
    """Return the message, for a server that listens on `addresses`."""
    secure = settings.certfile is not None
    lines = [f"Triocast {version('triocast')} is listening on"]
    lines += [f"    {_url(address, 's' if secure else '', 'http')}" for address in addresses]
    tcp = next((address for address in addresses if address.path is None), None)
    lines += _first_steps(settings, tcp, "s" if secure else "") if tcp is not None else []
    lines += [_exposure(settings), _openness(settings), "Stop with Ctrl-C.", ""]
    return "\n".join(lines)


def _first_steps(settings: Settings, address: Address, s: str) -> list[str]:
    http, ws = _url(address, s, "http"), _url(address, s, "ws")
    key = "" if settings.api_key is None else ' -H "X-API-Key: $TRIOCAST_API_KEY"'
    url = "" if http == "http://127.0.0.1:8000" else f" --url {http}"
    page = [f"  try       {http}/ in a browser"] if settings.api_key is None else []  # with a key nobody is shown it
    return [
        "",
        *page,
        f"  listen    triocast listen{url} sample",
        f"            wscat -c {ws}/ws/sample",
        f"  publish   triocast publish{url} sample hello",
        f"            curl{key} -d hello {http}/publish/sample",
        f"  look      curl{key} {http}/groups",
        "",
    ]


def _exposure(settings: Settings) -> str:
    if settings.api_key is not None:
        return "An api_key is set: publishing and /groups need it."
    if settings.insecure:
        return "INSECURE: no api_key is set: whoever reaches this server may publish and look at its groups."
    return (
        "No api_key is set: publishing and /groups are open to this machine only, not through proxies or other sites."
    )


def _openness(settings: Settings) -> str:
    presence = any(each.presence for each in (settings, *settings.namespaces.values()))
    also = ", nor does asking who is in a group (see presence)" if presence else ""
    return f"Subscribing needs no key{also}."


def _url(address: Address, s: str, scheme: str) -> str:
    if address.path is not None:
        return str(address)
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - shown, not bound
    return f"{scheme}{s}://{Address(shown, address.port)}"
