"""How a WebSocket that Quart has taken in is accepted, closed or refused past its handler.

It reads no message; the connection does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Response
from werkzeug.exceptions import HTTPException

from triocast.door import DOOR, Door
from triocast.errors import NotRunning


def door_of(scope: dict[str, Any]) -> Door:
    door: Door | None = scope.get(DOOR)
    if door is None:
        raise NotRunning("this application has no Triocast: pass it to Triocast(app) or init_app(app)")
    return door


class Refusal(HTTPException):
    """Answers a handshake with an error instead of accepting it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response=response)
        self.code = response.status_code


class QuartsAnswer:
    """Quart's websocket with the answer's headers and subprotocol filled in."""

    def __init__(self, current: Any, headers: dict[str, str], subprotocol: str | None) -> None:
        self._websocket = current
        self._headers = headers
        self._subprotocol = subprotocol

    async def accept(self, headers: Mapping[str, str]) -> None:
        await self._websocket.accept({**self._headers, **headers}, self._subprotocol)

    async def close(self, code: int, reason: str = "") -> None:
        await self._websocket.close(code, reason)
