"""Two servers on two ports and the Valkey that joins them: `pair.py PORT OTHER_PORT OPTIONS…`, ended by SIGTERM.

Workers share one port, so nobody can say which of them has a connection; here everybody can. It measures nothing.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from triocast.serve.valkey import find_binary

START_TIMEOUT = 10.0
END_TIMEOUT = 8.0  # less than whoever started us waits


def main(ports: list[str], options: list[str]) -> int:
    """Run all three until one of them or this ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="triocast-pair-") as folder:
        try:
            place = Path(folder) / "valkey"
            processes.append(subprocess.Popen(valkey(place)))
            wait_until_it_listens(place)
            engine = ("--engine", f"unix://{place}")
            for port in ports:
                bind = ("--bind", f"127.0.0.1:{port}")
                processes.append(
                    subprocess.Popen([sys.executable, "-m", "triocast", "serve", *bind, *engine, *options])
                )
            while all(process.poll() is None for process in processes):
                time.sleep(1)
        finally:
            for process in reversed(processes):  # the store goes last
                process.terminate()
                try:
                    process.wait(END_TIMEOUT / 3)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    return 1


def valkey(place: Path) -> list[str]:
    """Return the command of a Valkey that keeps things as the workers' own does."""
    words = ["--port", "0", "--unixsocket", str(place), "--dir", str(place.parent), "--logfile", "valkey.log"]
    return [find_binary(), *words, "--appendonly", "yes", "--save", "", "--databases", "1"]


def wait_until_it_listens(place: Path) -> None:
    """Raises `TimeoutError`."""
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(place)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError("Valkey did not start")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:3], sys.argv[3:]))
