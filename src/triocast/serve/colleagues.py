"""The other workers of a server: each gives its metrics to whoever connects to its private socket, and asks the others.

Whoever is asked by Prometheus asks all the rest; it never waits long for one that is in trouble.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from triocast.serve.house import House

DEADLINE = 1.0  # seconds for a worker's answer, which takes milliseconds; Prometheus itself gives up after 10
MAX_PAGE = 16 * 1024 * 1024  # bytes of one worker's page; with a hundred namespaces it has some 200 KB
BACKLOG = 64

logger = logging.getLogger("triocast.serve")


class Colleagues:
    """The workers that share a house, as the one sees them that has `socket` in it."""

    def __init__(self, house: House, socket: str) -> None:
        self._house = house
        self._socket = socket

    async def answer(
        self, page: Callable[[], Awaitable[str]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Give `page()` to whoever connects, until cancelled."""

        async def give(stream: trio.SocketStream) -> None:
            with trio.move_on_after(DEADLINE):
                try:
                    await stream.send_all((await page()).encode())
                except trio.BrokenResourceError:
                    logger.debug("whoever asked for metrics has gone")
            await trio.aclose_forcefully(stream)

        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await sock.bind(str(self._house.path / self._socket))
        sock.listen(BACKLOG)
        task_status.started()
        await trio.serve_listeners(give, [trio.SocketListener(sock)])

    async def pages(self, own: str) -> Mapping[str, str | None]:
        """Return the metrics of every worker by its label; None for one that does not answer."""
        found: dict[str, str | None] = {}
        try:
            roster = self._house.read_roster()
        except (OSError, msgspec.DecodeError):  # the supervisor is gone, and its folder with it
            roster = {"alone": self._socket}
        async with trio.open_nursery() as nursery:
            for label, name in roster.items():
                found[label] = own if name == self._socket else None
                if name != self._socket:
                    nursery.start_soon(self._ask, label, name, found)
        return found

    async def _ask(self, label: str, name: str, found: dict[str, str | None]) -> None:
        with trio.move_on_after(DEADLINE):
            try:
                page = await _read(str(self._house.path / name))
                found[label] = page.decode()
            except (OSError, trio.BrokenResourceError, UnicodeDecodeError):
                logger.warning("worker %s does not answer", label)


async def _read(path: str) -> bytes:
    async with await trio.open_unix_socket(path) as stream:
        page = bytearray()
        async for piece in stream:
            page += piece
            if len(page) > MAX_PAGE:
                raise trio.BrokenResourceError(f"a page of more than {MAX_PAGE} bytes")
        return bytes(page)
