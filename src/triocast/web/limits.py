"""Bounds what a request's body may hold in memory, and how long it may take to arrive.

It decides on ASGI events, before Quart queues them, because Quart's queue has no bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from quart import Quart, Response
from quart.utils import encode_headers
from quart_trio.asgi import TrioASGIHTTPConnection

from triocast.problems import answer
from triocast.settings import Settings
from triocast.web.payload import body_limit

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


def bound_bodies(app: Quart, settings: Settings) -> None:
    """Give every request of `app` at most the body that a message of `max_message` needs, and `body_timeout`.

    More is answered 413, later 408, and the handler is told that its client is gone. Replaces Quart's own limits.
    """
    base: type[TrioASGIHTTPConnection] = app.asgi_http_class  # type: ignore[assignment]

    class BoundedConnection(base):  # type: ignore[valid-type, misc]
        async def __call__(self, receive: Receive, send: Send) -> None:
            reply = Reply(send)
            body = BoundedBody(self.scope, receive, reply, settings)
            if body.refusal is None:
                await super().__call__(body.receive, reply.send)
            if body.refusal is not None and not reply.started:
                await refuse(body, body.refusal, send, settings.close_timeout)

    app.asgi_http_class = BoundedConnection
    app.config["MAX_CONTENT_LENGTH"] = None
    app.config["BODY_TIMEOUT"] = None


class Reply:
    """Sends, and remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, event: Event) -> None:
        """Send an event of the answer."""
        self.started = True
        await self._send(event)


class ClientGone(Exception):
    """The body ends before it is complete: its client has gone, or has broken a bound."""


class BoundedBody:
    """The receiving end of one request; `refusal` is the answer once its body has broken a bound."""

    def __init__(self, scope: Event, receive: Receive, reply: Reply, settings: Settings) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self.refusal: Response | None = None
        self._receive = receive
        self._reply = reply
        self._timeout = settings.body_timeout
        self._deadline = trio.current_time() + settings.body_timeout
        content_type = headers.get(b"content-type", b"").decode("latin1")
        # By how the path ends, since routes may be mounted below a prefix. No larger message goes to the group
        # "publish" for it: that is looked at again.
        self._batch = scope["path"].endswith("/publish")
        self._limit = body_limit(content_type, settings.max_message, batch=self._batch)
        self._size = 0
        self._complete = False
        declared = headers.get(b"content-length", b"")
        # More digits than any limit has are not worth converting (and Python refuses thousands of them).
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self._limit):
            self.refusal = self._too_large()

    async def receive(self) -> Event:
        """Return the next event; `http.disconnect` once a bound is broken."""
        while self.refusal is None and not self._complete:
            with trio.CancelScope(deadline=self._deadline) as patience:
                event = await self._receive()
            if patience.cancelled_caught:
                self.refusal = self._too_late()
            elif self._fits(event):
                return event
            elif not self._reply.started:  # an answer on its way is let through; it did not want the body
                self.refusal = self._too_large()
        return await self._receive() if self.refusal is None else {"type": "http.disconnect"}

    async def read(self) -> bytes:
        """Return the whole body. Raises `ClientGone` when it will not be complete; `refusal` says whether by us."""
        pieces: list[bytes] = []
        while not self._complete:
            event = await self.receive()
            if event["type"] != "http.request":
                raise ClientGone
            pieces.append(event.get("body", b""))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def discard(self) -> None:
        """Take what the client is still sending, and keep none of it; until it is done or gone."""
        while not self._complete:
            event = await self._receive()
            self._complete = event["type"] != "http.request" or not event.get("more_body", False)

    def _fits(self, event: Event) -> bool:
        if event["type"] != "http.request":
            return True
        self._size += len(event.get("body", b""))
        self._complete = not event.get("more_body", False)
        return self._size <= self._limit

    def _too_large(self) -> Response:
        which = "several messages have" if self._batch else "with this content type"
        message = f"the body is too large: {which} at most {self._limit} bytes (see max_message)"
        return answer(413, "message_too_large", message)

    def _too_late(self) -> Response:
        message = f"the body did not arrive within {self._timeout:g} seconds (body_timeout)"
        return answer(408, "request_timeout", message)


async def refuse(body: BoundedBody, response: Response, send: Send, patience: float) -> None:
    """Send the whole answer, then discard what the client is still sending, for `patience` seconds at most.

    To close at once would reset the connection, and the client would lose the answer that says why.
    """
    headers = encode_headers(response.headers)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    content = await response.get_data(as_text=False)
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with trio.move_on_after(patience):
        await body.discard()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
