"""A Quart response that is a client's stream of server-sent events.

It says nothing of what is streamed: that is the connection's affair.
"""

from __future__ import annotations

from collections.abc import Callable

from triocast.core.listening import Listening
from triocast.errors import TriocastError
from triocast.lasting import LastingResponse, nothing, send_head
from triocast.reception import Reception
from triocast.transports.events import HEAD, Call


class EventsResponse(LastingResponse):
    """What `Triocast.events` returns; headers that are put into it are sent."""

    head = HEAD

    def __init__(self, reception: Reception, listening: Listening) -> None:
        super().__init__(reception, "text/event-stream; charset=utf-8")
        self.listening = listening

    async def serve(self, call: Call) -> TriocastError | None:
        """Serve the client until it is gone."""
        return await serve_events(self.reception, call, self.listening)


async def serve_events(
    reception: Reception, call: Call, listening: Listening, answered: Callable[[], None] = nothing
) -> TriocastError | None:
    """Serve `call` until its client has left or is closed, or return why it is refused: then it is not answered.

    `answered` is called once it is. To HEAD the answer is its head.
    """
    if call.scope["method"] == "HEAD":
        await send_head(call, HEAD)
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
