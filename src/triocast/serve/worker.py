"""One of several workers: it serves on sockets that it was given, until it is told to go or its supervisor is gone.

It is started by the supervisor only: `python -m triocast.serve.worker`, with its order on standard input.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from triocast import logs
from triocast.engines import Engine
from triocast.engines.choice import make_engine
from triocast.errors import SettingsError, TriocastError
from triocast.metrics import Metrics
from triocast.serve.colleagues import Colleagues
from triocast.serve.house import House
from triocast.serve.listeners import Bound, listen_on
from triocast.serve.loop import only_leaf, raise_file_limit, serve_on
from triocast.serve.order import READY, Order, decode_order
from triocast.settings.address import parse_address
from triocast.web.app import create_app

STDIN = 0

logger = logging.getLogger("triocast.serve")


class Worker:
    """A worker with its order; `make` makes its engine."""

    def __init__(self, order: Order, make: Callable[..., Engine]) -> None:
        self._order = order
        self._make = make
        self._house = House(Path(order.house))
        self._orphaned = False

    async def serve(self) -> None:
        """Serve until told to go, and leave within `grace`."""
        order = self._order
        colleagues = Colleagues(self._house, order.socket)
        app = create_app(order.settings, engine=self._make(order.settings), workers=colleagues)
        metrics = Metrics(app.extensions["triocast"].hub)
        listening = listen_on([_adopt(each.descriptor, each.address) for each in order.listening], order.settings)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(colleagues.answer, metrics.text)
                await serve_on(listening, app, order.settings, self._say_ready, self._wait_orphaned)
                nursery.cancel_scope.cancel()
        finally:
            self._house.leave(order.socket, orphaned=self._orphaned)

    def _say_ready(self) -> None:
        logger.info("accepting connections", extra={"pid": os.getpid()})
        os.write(self._order.report, READY)
        os.close(self._order.report)

    async def _wait_orphaned(self) -> str:
        """Wait for the end of standard input, which the supervisor keeps open."""
        async with trio.lowlevel.FdStream(os.dup(STDIN)) as stream:
            while await stream.receive_some():
                pass
        self._orphaned = True
        logger.warning("the supervisor is gone")
        return "orphaned"


def _adopt(descriptor: int, address: str) -> Bound:
    return Bound(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)), parse_address(address))


def main(make: Callable[..., Engine] = make_engine) -> int:
    """Do what the order on standard input says; return the exit code."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 1  # the supervisor went before it had said anything
    order = decode_order(line)
    logs.configure(order.settings, worker=order.number)
    raise_file_limit()
    try:
        trio.run(Worker(order, make).serve)
    except BaseException as error:
        leaf = only_leaf(error)
        if not isinstance(leaf, TriocastError):
            raise
        logger.error("%s", leaf)  # noqa: TRY400 - a sentence says it, not a traceback
        return 2 if isinstance(leaf, SettingsError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
