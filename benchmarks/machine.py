"""Says what machine this is, and raises its limit of open files for ten thousand connections."""

from __future__ import annotations

import os
import platform
import resource
from datetime import date
from pathlib import Path

from benchmarks.build import say

FILES = 65_536
FILES_NEEDED = 11_000


def describe() -> dict[str, str]:
    """Return what a reader must know to place the figures."""
    return {
        "date": date.today().isoformat(),
        "processor": f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "load client": "C, one thread, on the same machine",
    }


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


def allow_many_files() -> None:
    """Raise the limit for this process and all it starts, as far as it goes; says so if that is not far enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FILES_NEEDED:
        say(f"only {wanted} open files are allowed: the case of 10,000 subscribers will fail (ulimit -Hn)")
