"""What a server's processes have used, from /proc: CPU time and resident memory, its children included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
STORE = b"(valkey-server"


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far, user and system, bytes resident now, and how much of the CPU was Valkey's."""

    cpu: float
    rss: int
    store: float = 0.0


def usage(pid: int) -> Usage:
    """Add up what `pid` and the processes below it have used; one that has just ended counts nothing."""
    cpu, rss, store = 0.0, 0, 0.0
    for each in family(pid):
        try:
            name, _, rest = Path(f"/proc/{each}/stat").read_bytes().rpartition(b")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = rest.split()
        used = (int(fields[11]) + int(fields[12])) * TICK
        cpu += used
        store += used if name.endswith(STORE) else 0.0
        rss += int(fields[21]) * PAGE
    return Usage(cpu, rss, store)


def family(pid: int) -> Iterator[int]:
    """Yield `pid` and every process below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from family(int(child))


def settle(pid: int, patience: float = 5.0) -> Usage:
    """Wait until the processes have used no CPU for three tenths of a second, or `patience` is over."""
    end = time.monotonic() + patience
    before = usage(pid)
    while time.monotonic() < end:
        time.sleep(0.3)
        after = usage(pid)
        if after.cpu - before.cpu < 2 * TICK:
            return after
        before = after
    return before
