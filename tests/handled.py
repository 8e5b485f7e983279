"""A handler of one client over an in-memory transport, as the tests of connections run it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from triocast import Connection, Settings
from triocast.connection import open_connection
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.testing import MemoryTransport

Body = Callable[[Connection], Awaitable[None]]


async def running_hub(nursery: trio.Nursery, **values: object) -> Hub:
    settings = Settings(**values)  # type: ignore[arg-type]
    hub = Hub(settings, MemoryEngine(settings))
    await nursery.start(hub.run)
    return hub


class Handled:
    """A handler that ran: its connection, whether it came to the end of its function, and what it raised."""

    def __init__(self, hub: Hub, transport: MemoryTransport, body: Body) -> None:
        self.connection: Connection | None = None
        self.passed = False
        self.error: Exception | None = None
        self._hub, self._transport, self._body = hub, transport, body

    async def run(self, *, task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with open_connection(self._hub, self._transport) as connection:
                self.connection = connection
                task_status.started(connection)
                await self._body(connection)
            self.passed = True
        except ValueError as error:
            self.error = error


async def forever(connection: Connection) -> None:
    await trio.sleep_forever()
