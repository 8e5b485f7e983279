"""Serves an application of the examples in this one process, as its `main` does, on a free port: python -m … FILE.

Hypercorn's command has a process of its own for its worker, which would outlive a server that is killed.
"""

from __future__ import annotations

import runpy
import signal
import sys

import trio
from quart_trio import QuartTrio


async def main(app: QuartTrio) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await app.run_task(port=0, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main, runpy.run_path(sys.argv[1])["app"])
