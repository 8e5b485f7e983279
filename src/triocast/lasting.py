"""Quart responses that take their time, whatever Quart's limits for responses are.

Quart makes and finishes one as any other; it is then served past Quart, on the request's own ASGI callables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from quart import Quart, Response
from quart.utils import encode_headers
from quart_trio.asgi import TrioASGIHTTPConnection

from triocast.door import Door, Receive, Send
from triocast.errors import TriocastError
from triocast.event_request import Headers, cors_headers
from triocast.problems import problem
from triocast.reception import Reception
from triocast.transports.events import Call

# What whoever writes the answer says of its body.
ITS_OWN = {b"content-length", b"transfer-encoding", b"connection"}


def nothing() -> None:
    """Nobody waits for the answer."""


class LastingResponse(Response):
    """A response that a client of the reception's is given; headers that are put into it are sent."""

    head: ClassVar[Sequence[tuple[bytes, bytes]]] = ()
    """The headers that are not a handler's to set."""

    def __init__(self, reception: Reception, content_type: str) -> None:
        super().__init__(b"", content_type=content_type)
        self.timeout = None  # Quart's RESPONSE_TIMEOUT would cut it off
        self.reception = reception

    async def serve(self, call: Call) -> TriocastError | None:
        """Serve the client, or return why it is refused: then it is not answered."""
        raise NotImplementedError


def open_lasting_door(app: Quart, allowed_origins: tuple[str, ...]) -> None:
    """Let handlers of `app` answer requests with a `LastingResponse`."""
    base: type[TrioASGIHTTPConnection] = app.asgi_http_class  # type: ignore[assignment]

    class ConnectionWithDoor(base):  # type: ignore[valid-type, misc]
        _door: Door

        async def __call__(self, receive: Receive, send: Send) -> None:
            self._door = Door(receive, send, nothing)
            await super().__call__(self._door.receive, self._door.send)

        async def _send_response(self, send: Send, response: Any) -> None:
            if isinstance(response, LastingResponse):
                refusal = await self._serve(response)
                if refusal is None:
                    return
                response = refusal
            await super()._send_response(send, response)

        async def _serve(self, response: LastingResponse) -> Response | None:
            cors = cors_headers(self.scope, allowed_origins)
            not_quarts = ITS_OWN.union([name for name, _ in response.head])
            own = [pair for pair in encode_headers(response.headers) if pair[0].lower() not in not_quarts]
            receive, send = self._door.take()
            error = await response.serve(Call(self.scope, receive, send, [*cors, *own]))
            return None if error is None else with_headers(problem(error), cors)

    app.asgi_http_class = ConnectionWithDoor


def with_headers(response: Response, headers: Headers) -> Response:
    """Put headers into an answer, and return it."""
    for name, value in headers:
        response.headers.add(name.decode("latin1"), value.decode("latin1"))
    return response


async def send_head(call: Call, head: Sequence[tuple[bytes, bytes]]) -> None:
    """Answer to HEAD."""
    await call.send({"type": "http.response.start", "status": 200, "headers": [*head, *call.headers]})
    await call.send({"type": "http.response.body", "body": b"", "more_body": False})
