"""A Quart response that is the answer to one poll.

It says nothing of what is answered: that is the connection's affair.
"""

from __future__ import annotations

from collections.abc import Callable

from triocast.errors import TriocastError
from triocast.lasting import LastingResponse, nothing, send_head
from triocast.reception import Reception
from triocast.transports.events import Call
from triocast.transports.poll import HEAD, Polling


class PollResponse(LastingResponse):
    """What `Triocast.poll` returns; headers that are put into it are sent."""

    head = HEAD

    def __init__(self, reception: Reception, polling: Polling) -> None:
        super().__init__(reception, "application/json")
        self.polling = polling

    async def serve(self, call: Call) -> TriocastError | None:
        """Answer the client."""
        return await serve_poll(self.reception, call, self.polling)


async def serve_poll(
    reception: Reception, call: Call, polling: Polling, begun: Callable[[], None] = nothing
) -> TriocastError | None:
    """Answer `call`, or return why it is refused: then it is not answered.

    `begun` is called once its client waits. To HEAD the answer is its head.
    """
    if call.scope["method"] == "HEAD":
        await send_head(call, HEAD)
        return None
    waiting = False

    def wait() -> None:
        nonlocal waiting
        waiting = True
        begun()

    try:
        await reception.poll(call, polling, wait)
    except TriocastError as error:
        if waiting:
            raise
        return error
    return None
