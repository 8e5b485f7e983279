"""The direct way: frames made once for all, written to the client's own socket by the link under the connection.

It needs the link of `triocast.link`, and a WebSocket over HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from triocast.core.wire import Format, Told, compressed
from triocast.core.wire.websocket import data_frame
from triocast.transports.asgi import AsgiTransport, Handle, Receive, Websocket


class DirectTransport(AsgiTransport):
    """Frames go through the handle; while the client keeps up, the broadcaster writes to its `outlet` itself.

    A client that understands compressed frames has them from the compressed twin of its format.
    """

    name = "direct"

    def __init__(self, receive: Receive, websocket: Websocket, form: Format, handle: Handle) -> None:
        super().__init__(receive, websocket, compressed(form) if handle.deflates else form, handle)
        self.outlet = handle.outlet
        self._link = handle

    async def wait_writable(self) -> None:
        """Write what is left of a frame that was begun, and wait until the socket takes more."""
        await self._link.wait_writable()

    async def send(self, told: Sequence[Told]) -> None:
        """Write the frames in one go; what the format cannot say has none."""
        await self._link.send_frames([frame for each in told if (frame := self.format.frame(each))])

    async def send_data(self, data: str | bytes) -> None:
        """Write a frame for this client alone; uncompressed, since nobody shares the work."""
        await self._link.wait_writable()
        await self._link.send_frames([data_frame(data)])
