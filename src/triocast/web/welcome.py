"""What is at `/`: a page to try things out for browsers that may publish, and for everybody else a text that says how.

The page has no rights of its own: what it asks for goes by the same addresses, and the same rules, as everybody's.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files

from quart import Blueprint, Response, request

from triocast.core.access import deny
from triocast.settings import Settings
from triocast.web.guard import caller, lock

TEXT = """\
This is Triocast: server push, by groups.

Listen:   wscat -c {ws}/ws/sample
          curl -N {http}/sse/sample
          curl {http}/poll/sample
Publish:  curl {key}-d 'hello' {http}/publish/sample
          http --form POST {http}/publish/sample {httpie_key}msg='hello'
Look:     curl {key}{http}/groups
          curl {http}/members/sample

Every client that listens to sample gets the message.
"""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}

# What is inline in the page, of which the policy below names the digests: nothing else is styled or run.
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def welcome_routes(settings: Settings, name: str = "triocast_welcome") -> Blueprint:
    """Return a blueprint with `/`, for a server with these settings."""
    blueprint = Blueprint(name, __name__)
    page = files("triocast.web").joinpath("pages/first.html").read_text("utf-8")
    policy = _policy(page)

    @blueprint.get("/")
    async def welcome() -> Response:
        if _wants_page() and _may_publish(settings):
            headers = {**HEADERS, "Content-Security-Policy": policy.format(sockets=_sockets())}
            return Response(page, headers=headers, content_type="text/html; charset=utf-8")
        return Response(_text(settings), headers=HEADERS, content_type="text/plain; charset=utf-8")

    return blueprint


def _wants_page() -> bool:
    """Whether HTML is preferred to text: browsers say so; curl and others take anything."""
    accepted = request.accept_mimetypes
    return accepted.quality("text/html") > accepted.quality("text/plain")


def _may_publish(settings: Settings) -> bool:
    if settings.api_key is not None:
        return False
    # A link on another site's page may well lead here; from there on it is the page itself that asks.
    visitor = replace(caller(request.scope), fetch_site=None)
    return deny(visitor, lock(settings)) is None


def _policy(page: str) -> str:
    """Return the Content-Security-Policy for the page, with a place for the addresses of its WebSockets."""
    digests: dict[str, str] = {}
    for kind, inline in _INLINE.findall(page):
        digests[kind] = f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
    rules = {
        "default-src": "'none'",
        "style-src": digests["style"],
        "script-src": digests["script"],
        "connect-src": "'self'{sockets}",
        "img-src": "data:",  # the icon
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",  # nobody can be made to click on what they do not see
    }
    return "; ".join(f"{rule} {value}" for rule, value in rules.items())


def _sockets() -> str:
    """Return our own WebSockets as sources: not for every browser are they among 'self'."""
    host = request.headers.get("Host")  # a host and nothing else: the gate has seen to it
    return f" ws://{host} wss://{host}" if host else ""


def _text(settings: Settings) -> str:
    """Say what this is and what to type, with the address that the client has used."""
    key = settings.api_key is not None
    address = f"{'s' if request.scheme == 'https' else ''}://{request.headers.get('Host', 'HOST')}"
    return TEXT.format(
        ws=f"ws{address}",
        http=f"http{address}",
        key="-H 'X-API-Key: KEY' " if key else "",
        httpie_key="X-API-Key:KEY " if key else "",
    )
