"""The least an ASGI application can do, on Hypercorn and trio as they come: what Triocast's own costs are held against.

A request's body is read and answered with `ok`; a WebSocket is accepted and then listened to, never written to.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def app(scope: Any, receive: Receive, send: Send) -> None:
    """Answer a request, accept a WebSocket, say yes to the lifespan."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        while True:
            await send({"type": f"{(await receive())['type']}.complete"})


def main(port: int) -> None:
    """Serve until the process is told to end."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.backlog = 4096
    trio.run(serve, app, config)


main(int(sys.argv[1]))
