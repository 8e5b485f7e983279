"""The fan-out with Starlette on uvicorn: a set of WebSockets, and a loop that awaits each `send_text`."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

connected: set[WebSocket] = set()


async def subscribe(websocket: WebSocket) -> None:
    """Be in the group until the client leaves."""
    await websocket.accept()
    connected.add(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        connected.discard(websocket)


async def publish(request: Request) -> PlainTextResponse:
    """Send one text to everybody."""
    text = (await request.body()).decode()
    for websocket in list(connected):
        await websocket.send_text(text)
    return PlainTextResponse("ok")


app = Starlette(
    routes=[
        WebSocketRoute("/ws/bench", subscribe),
        Route("/publish/bench", publish, methods=["POST"]),
    ]
)

uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    backlog=4096,
    access_log=False,
    log_level="warning",
    ws_per_message_deflate=False,
)
