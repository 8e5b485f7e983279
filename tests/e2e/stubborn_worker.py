"""A worker that accepts nobody and does not leave when it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time

from triocast.serve.order import READY, decode_order


def main() -> None:
    order = decode_order(sys.stdin.buffer.readline())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f'"accepting connections", "pid": {os.getpid()}, "worker": {order.number}', file=sys.stderr, flush=True)
    os.write(order.report, READY)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
