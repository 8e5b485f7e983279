"""The tasks of one connection: its handlers, and what serves them in the background.

It never decides when a connection ends: the link leaves its nurseries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import AppWrapper, ASGIReceiveCallable, Scope

from triocast.link.inbox import BodyInbox, Inbox, MessageInbox, Taken

Send = Callable[[Any], Awaitable[None]]
Put = Callable[[Any], Awaitable[None]]


class LinkTasks(TaskGroup):
    """Hypercorn's task group, with an inbox that never waits for a handler that has ended.

    Handlers run in `handlers`; timers, pings and the like in `background`, which ends with the connection.
    """

    def __init__(self, handlers: trio.Nursery, background: trio.Nursery) -> None:
        super().__init__()
        self._nursery = background
        self._handlers = handlers
        self.running = 0

    async def spawn_app(self, app: AppWrapper, config: Config, scope: Scope, send: Send) -> Put:
        """Start a handler; returns what hands it events."""
        inbox = MessageInbox() if scope["type"] == "websocket" else BodyInbox()
        return self.start_handler(inbox, app, config, scope, send)

    def start_handler(self, inbox: Inbox, app: AppWrapper, config: Config, scope: Scope, send: Send) -> Put:
        self.running += 1
        self._handlers.start_soon(self._run_handler, inbox, app, config, scope, send)
        return inbox.put

    async def _run_handler(self, inbox: Inbox, app: AppWrapper, config: Config, scope: Scope, send: Send) -> None:
        async def last_send(message: Any) -> None:
            # None: the handler has ended. Nobody receives any more, so whoever waits to hand it events goes on.
            if message is None:
                await inbox.close()
            await send(message)

        try:
            receive = cast("ASGIReceiveCallable", inbox.receive)
            await _handle(app, config, scope, receive, last_send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            self.running -= 1


class StreamTasks(TaskGroup):
    """The task group of one HTTP/2 stream, whose body is bounded by the stream's flow-control window."""

    def __init__(self, tasks: LinkTasks, taken: Taken) -> None:
        super().__init__()
        self._tasks = tasks
        self._taken = taken

    async def spawn_app(self, app: AppWrapper, config: Config, scope: Scope, send: Send) -> Put:
        """Start a handler; `taken` is told how many bytes of the body it took or will never take."""
        inbox = BodyInbox(room=None, taken=self._taken)
        return self._tasks.start_handler(inbox, app, config, scope, send)

    def spawn(self, func: Callable[..., Awaitable[None]], *args: Any) -> None:
        self._tasks.spawn(func, *args)
