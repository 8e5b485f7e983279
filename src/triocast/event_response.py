"""A Quart response that is a client's stream of server-sent events, whatever Quart's limits for responses are.

Quart makes and finishes it as any other; it is then served past Quart, on the request's own ASGI callables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart import Quart, Response
from quart.utils import encode_headers
from quart_trio.asgi import TrioASGIHTTPConnection

from triocast.core.listening import Listening
from triocast.door import Door, Receive, Send
from triocast.errors import TriocastError
from triocast.event_request import Headers, cors_headers
from triocast.problems import problem
from triocast.reception import Reception
from triocast.transports.events import HEAD, Call

# What the stream says of itself, and what would be wrong of it.
NOT_QUARTS = {name for name, _ in HEAD} | {b"content-length", b"transfer-encoding", b"connection"}


def _nothing() -> None:
    """Nobody waits for the answer."""


class EventsResponse(Response):
    """What `Triocast.events` returns; headers that are put into it are sent."""

    def __init__(self, reception: Reception, listening: Listening) -> None:
        super().__init__(b"", content_type="text/event-stream; charset=utf-8")
        self.timeout = None  # Quart's RESPONSE_TIMEOUT would cut the stream off
        self.reception = reception
        self.listening = listening


def open_events_door(app: Quart, allowed_origins: tuple[str, ...]) -> None:
    """Let handlers of `app` answer requests with an `EventsResponse`."""
    base: type[TrioASGIHTTPConnection] = app.asgi_http_class  # type: ignore[assignment]

    class ConnectionWithDoor(base):  # type: ignore[valid-type, misc]
        _door: Door

        async def __call__(self, receive: Receive, send: Send) -> None:
            self._door = Door(receive, send, _nothing)
            await super().__call__(self._door.receive, self._door.send)

        async def _send_response(self, send: Send, response: Any) -> None:
            if isinstance(response, EventsResponse):
                refusal = await self._serve(response)
                if refusal is None:
                    return
                response = refusal
            await super()._send_response(send, response)

        async def _serve(self, response: EventsResponse) -> Response | None:
            cors = cors_headers(self.scope, allowed_origins)
            own = [pair for pair in encode_headers(response.headers) if pair[0].lower() not in NOT_QUARTS]
            receive, send = self._door.take()
            call = Call(self.scope, receive, send, [*cors, *own])
            error = await serve_events(response.reception, call, response.listening)
            return None if error is None else with_headers(problem(error), cors)

    app.asgi_http_class = ConnectionWithDoor


async def serve_events(
    reception: Reception, call: Call, listening: Listening, answered: Callable[[], None] = _nothing
) -> TriocastError | None:
    """Serve `call` until its client has left or is closed, or return why it is refused: then it is not answered.

    `answered` is called once it is. To HEAD the answer is its head.
    """
    if call.scope["method"] == "HEAD":
        await _send_head(call)
        return None
    opened = False
    try:
        async with reception.events(call, listening) as connection:
            opened = True
            answered()
            async for _ in connection:  # it says nothing; this ends with it, and is not cancelled
                pass
    except TriocastError as error:
        if opened:
            raise
        return error
    return None


def with_headers(response: Response, headers: Headers) -> Response:
    """Put headers into an answer, and return it."""
    for name, value in headers:
        response.headers.add(name.decode("latin1"), value.decode("latin1"))
    return response


async def _send_head(call: Call) -> None:
    await call.send({"type": "http.response.start", "status": 200, "headers": [*HEAD, *call.headers]})
    await call.send({"type": "http.response.body", "body": b"", "more_body": False})
