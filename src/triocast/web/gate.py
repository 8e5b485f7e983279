"""ASGI middleware: refuses requests that frameworks fail on, before they can.

An exception there would be a crash in the log and a bare 500 for what is the client's mistake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Response
from quart.utils import encode_headers

from triocast.core.access import parse_host
from triocast.problems import answer

Scope = dict[str, Any]
Event = dict[str, Any]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Gate:
    """Answers 400 to a Host header that names no host (RFC 9112, 3.2) and to a query that is not UTF-8."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Pass the call on, or answer it."""
        problem = _problem(scope) if scope["type"] in ("http", "websocket") else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await send_answer(scope, answer(400, "bad_request", problem), send)


async def send_answer(scope: Scope, response: Response, send: Send) -> None:
    """Answer a request, or refuse a handshake, below Quart."""
    websocket = scope["type"] == "websocket"
    if websocket and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    prefix = "websocket.http.response" if websocket else "http.response"
    headers = encode_headers(response.headers)
    content = await response.get_data(as_text=False)
    await send({"type": f"{prefix}.start", "status": response.status_code, "headers": headers})
    await send({"type": f"{prefix}.body", "body": content, "more_body": False})


def _problem(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        # An empty Host is what a client sends that has no name for us.
        if name.lower() == b"host" and value and parse_host(value.decode("latin1")) is None:
            return "the Host header names no host"
    try:
        scope["query_string"].decode()
    except UnicodeDecodeError:
        return "the query is not UTF-8: percent-encode it"
    return None
