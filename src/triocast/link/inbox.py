"""What waits for an application's `receive()`: a few messages or one piece of body, then the disconnect.

It never knows where events come from, and never keeps a task waiting for a handler that has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from triocast.bell import Bell

ASGIEvent: TypeAlias = dict[str, Any]
Taken: TypeAlias = Callable[[int], Awaitable[None]]

# One read: a handler that does not take its body costs this much, and the rest stays in the client's kernel.
BODY_ROOM = 64 * 1024
# Together as much as a body may be, or one message of any size; as many small ones as are worth a task switch less.
MESSAGES_ROOM = 64 * 1024
MAX_MESSAGES = 64


class Inbox:
    """The waiting and ending that both kinds share; a kind says what it can still take in.

    After the disconnect `receive()` returns it again and again, so that a handler can never hang on it.
    """

    def __init__(self) -> None:
        self._final: ASGIEvent | None = None
        self._ended = False
        self._putter = Bell()  # for the protocol's one task
        self._receivers = trio.lowlevel.ParkingLot()  # an application may receive in several

    async def put(self, event: ASGIEvent) -> None:
        """Hand an event to the handler, waiting for room. A disconnect never waits; what comes after it, or after the
        handler's end, is discarded."""
        if event["type"].endswith(".disconnect"):
            self._end(event)
            return
        while not self._deaf and not self._has_room(event):
            await self._putter.wait()
        if self._deaf:
            await self._discard(event)
        else:
            self._add(event)
            self._receivers.unpark()

    async def receive(self) -> ASGIEvent:
        """Return what comes next, waiting for it; other tasks get their turn once there is nothing. Cancellation loses
        nothing."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while (event := self._pop()) is None:
            if self._final is not None:
                await trio.lowlevel.checkpoint()  # whoever is about to answer may still do so
                return dict(self._final)
            await self._receivers.park()
        self._putter.ring()
        await self._taken(event)
        return event

    async def close(self) -> None:
        """The handler has ended: discard what waits, now and from now on."""
        self._ended = True
        self._putter.ring()
        while (event := self._pop()) is not None:
            await self._discard(event)

    @property
    def _deaf(self) -> bool:
        return self._ended or self._final is not None

    def _end(self, event: ASGIEvent) -> None:
        self._final = event
        self._putter.ring()
        self._receivers.unpark_all()

    async def _taken(self, event: ASGIEvent) -> None:
        """A handler took `event`."""

    async def _discard(self, event: ASGIEvent) -> None:
        """Nobody will take `event`."""
        await self._taken(event)

    def _has_room(self, event: ASGIEvent) -> bool:
        raise NotImplementedError

    def _add(self, event: ASGIEvent) -> None:
        raise NotImplementedError

    def _pop(self) -> ASGIEvent | None:
        raise NotImplementedError


class MessageInbox(Inbox):
    """Of a WebSocket: one message, or several that are small together."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[ASGIEvent] = []
        self._size = 0

    def _has_room(self, event: ASGIEvent) -> bool:
        events = self._events
        return not events or (len(events) < MAX_MESSAGES and self._size + _size(event) <= MESSAGES_ROOM)

    def _add(self, event: ASGIEvent) -> None:
        self._events.append(event)
        self._size += _size(event)

    def _pop(self) -> ASGIEvent | None:
        if not self._events:
            return None
        event = self._events.pop(0)
        self._size -= _size(event)
        return event


def _size(event: ASGIEvent) -> int:
    # Characters, of text: four bytes at most, and the message has been measured in bytes before.
    return len(event.get("text") or event.get("bytes") or b"")


class BodyInbox(Inbox):
    """Of an HTTP request: the body so far, in one piece however small the pieces came.

    `room` is in bytes, None where the protocol's own flow control is the bound; `taken` is told how many bytes went.
    """

    def __init__(self, room: int | None = BODY_ROOM, taken: Taken | None = None) -> None:
        super().__init__()
        self._body = bytearray()
        self._news = False
        self._more = True
        self._room = room
        self._tell = taken

    def _has_room(self, event: ASGIEvent) -> bool:
        return self._room is None or not self._body or len(self._body) + len(event["body"]) <= self._room

    def _add(self, event: ASGIEvent) -> None:
        self._body += event["body"]
        self._more = event["more_body"]
        self._news = self._news or bool(event["body"]) or not self._more

    def _pop(self) -> ASGIEvent | None:
        if not self._news:
            return None
        body, self._body, self._news = bytes(self._body), bytearray(), False
        return {"type": "http.request", "body": body, "more_body": self._more}

    async def _taken(self, event: ASGIEvent) -> None:
        if self._tell is not None and event["body"]:
            await self._tell(len(event["body"]))
