"""The fan-out with `picows`: a listener for each client, and a loop that sends to all of them."""

from __future__ import annotations

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from publish_door import open_door

connected: set[WSTransport] = set()


class Subscriber(WSListener):
    """In the group while connected."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join."""
        connected.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        connected.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close; nothing else that clients send matters here."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


def publish(body: bytes) -> None:
    """Send one text to everybody."""
    for transport in connected:
        transport.send(WSMsgType.TEXT, body)


def welcome(request: WSUpgradeRequest) -> WSListener:
    """Take every handshake."""
    return Subscriber()


async def main(port: int, publish_port: int) -> None:
    """Serve until the process is told to end."""
    server = await ws_create_server(welcome, "127.0.0.1", port, backlog=4096)
    async with server, await open_door(publish_port, publish):
        await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
