"""A TCP proxy before a server, which delays, cuts, swallows answers, and goes silent as a half-open connection does.

It changes no byte of what it passes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

BLOCK = 64 * 1024


class Proxy:
    """Passes on from its `port` to a server's. What `passing` and `answering` hold back is kept, until they are set."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self.refusing = False
        """Whether whoever connects is sent away at once."""
        self.delay = 0.0
        """Seconds that everything takes longer."""
        self.accepted = 0
        self._questions = _open()
        self._answers = _open()
        self._streams: set[trio.SocketStream] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=task_status)  # type: ignore[arg-type]

    def hold_answers(self) -> None:
        """Pass on what is asked, and none of what is answered."""
        self._answers = trio.Event()

    def go_silent(self) -> None:
        """Take everything and pass nothing on, in either direction; new connections are taken too."""
        self._questions, self._answers = trio.Event(), trio.Event()

    def cut(self) -> None:
        """Break every connection; what was held back is lost."""
        for stream in list(self._streams):
            stream.socket.close()
        self._streams.clear()

    def mend(self) -> None:
        """Pass everything on again."""
        self.refusing = False
        self._questions.set()
        self._answers.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            await client.aclose()
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.to)
        except OSError:
            await client.aclose()
            return
        self._streams |= {client, server}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, server, False, nursery.cancel_scope)
                nursery.start_soon(self._pass_on, server, client, True, nursery.cancel_scope)
        finally:
            self._streams -= {client, server}
            client.socket.close()
            server.socket.close()

    async def _pass_on(
        self, source: trio.SocketStream, target: trio.SocketStream, answers: bool, over: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(BLOCK):
                if self.delay:
                    await trio.sleep(self.delay)
                await (self._answers if answers else self._questions).wait()
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        over.cancel()


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a port while the block lasts."""
    proxy = Proxy(port)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


def _open() -> trio.Event:
    event = trio.Event()
    event.set()
    return event
