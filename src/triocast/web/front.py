"""ASGI middleware: publishes by POST without going through Quart, whose dispatch costs as much as all the rest of it.

What is allowed, understood and answered is the routes' own code; everything else is passed on.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from quart import Response
from werkzeug.exceptions import HTTPException

from triocast.errors import TriocastError
from triocast.extension import Triocast
from triocast.problems import answer
from triocast.web.errors import http_error, our_error
from triocast.web.gate import App, Scope, Send, send_answer
from triocast.web.guard import denied
from triocast.web.limits import BoundedBody, ClientGone, Reply, refuse
from triocast.web.publish import Denied, publish, shown

_HEAD = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]

logger = logging.getLogger("triocast.web")


class PublishFront:
    """Answers `POST {prefix}<group>` for the groups of `push`, in front of `app`."""

    def __init__(self, app: App, push: Triocast, prefix: str = "/publish/") -> None:
        self._app = app
        self._push = push
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Publish, or pass the call on."""
        ours = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(self._prefix)
        if not ours or scope.get("root_path"):  # below a root path, Quart knows what is left of the path
            await self._app(scope, receive, send)
            return
        settings = self._push.settings
        body = BoundedBody(scope, receive, Reply(send), settings)
        try:
            outcome = await self._publish(scope, body)
        except ClientGone:
            if body.refusal is not None:
                await refuse(body, body.refusal, send, settings.close_timeout)
            return
        if isinstance(outcome, Response):
            await send_answer(scope, outcome, send)
            return
        length = (b"content-length", b"%d" % len(outcome))
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEAD, length]})
        await send({"type": "http.response.body", "body": outcome, "more_body": False})

    async def _publish(self, scope: Scope, body: BoundedBody) -> bytes | Response:
        """Return the receipt as JSON, or the answer that says what is wrong."""
        try:
            receipt = await publish(self._push, scope, scope["path"][len(self._prefix) :], body.read)
            return msgspec.json.encode(shown(receipt))
        except Denied as error:
            return denied(error.denial)
        except TriocastError as error:
            return await our_error(error)
        except HTTPException as error:
            return await http_error(error)
        except ClientGone:
            raise
        except Exception:
            logger.exception("a publish crashed")
            return answer(500, "internal_server_error", "the server failed; the operator has been told")
