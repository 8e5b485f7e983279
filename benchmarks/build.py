"""Where the benchmark keeps what it makes, and the compiling of its two C programs.

Everything made lies in `benchmarks/build`, which git ignores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
PEERS = HERE / "peers"
LOAD = BUILD / "load"
FLOOR = BUILD / "floor"
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-sign-compare")


class CannotMeasure(Exception):
    """Something that the benchmark needs is not there; the message says what, and what to do."""


def say(text: str = "") -> None:
    """Tell whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def compile_all() -> None:
    """Compile the load client and the floor. Raises `CannotMeasure` without a C compiler or Linux."""
    if sys.platform != "linux":
        raise CannotMeasure("the load client needs Linux (epoll), and so do the figures taken from /proc")
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise CannotMeasure("no C compiler: the load client and the floor are C; install one (Debian: apt install gcc)")
    BUILD.mkdir(exist_ok=True)
    for target, sources in ((LOAD, sorted((HERE / "load").glob("*.c"))), (FLOOR, [HERE / "floor.c"])):
        command = [compiler, *FLAGS, "-o", str(target), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotMeasure(f"{target.name} does not compile:\n{done.stderr}")
