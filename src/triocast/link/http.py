"""One HTTP request: Hypercorn's stream, which ends when it is over and lets its handler go.

It never knows which version of HTTP is under it.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.protocol.events import Event, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream


class LinkHTTPStream(HTTPStream):
    """Differs from Hypercorn's at its two ends: a refused request, and a client that is gone."""

    async def handle(self, event: Event) -> None:
        """Take what the client sent; a body waits for the handler to receive."""
        if isinstance(event, StreamClosed) and not hasattr(self, "app_put"):
            self.closed = True  # refused: there is no handler to tell, and Hypercorn has logged the answer
            return
        was_open = not self.closed
        await super().handle(event)
        if was_open and self.closed and not isinstance(event, StreamClosed):
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: Any) -> None:
        """Do what the handler says; after the end nothing, but always with a checkpoint.

        Cancelled before anything is written, nothing is lost; a write that has begun is finished first.
        """
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self.closed:
            await trio.lowlevel.checkpoint()
        else:
            await super().app_send(message)
