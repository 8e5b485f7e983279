"""The fan-out with the `websockets` library: `broadcast`, which writes to every connection without waiting."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from publish_door import open_door
from websockets.asyncio.server import ServerConnection, broadcast, serve

connected: set[ServerConnection] = set()


async def subscribe(connection: ServerConnection) -> None:
    """Be in the group until the client leaves."""
    connected.add(connection)
    try:
        await connection.wait_closed()
    finally:
        connected.discard(connection)


def publish(body: bytes) -> None:
    """Send one text to everybody."""
    broadcast(connected, body.decode())


async def main(port: int, publish_port: int) -> None:
    """Serve until the process is told to end."""
    async with (
        serve(subscribe, "127.0.0.1", port, compression=None, backlog=4096),
        await open_door(publish_port, publish),
    ):
        await asyncio.get_running_loop().create_future()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
