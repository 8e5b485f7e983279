"""Runs a program until it ends, or until everybody who needs it has gone; started by the supervisor as a script.

It imports nothing but the standard library, so that it costs little, and outlives whoever started it: workers that
serve on after their supervisor was killed still need their Valkey.

    guardian.py HOLD KEEP PROGRAM ARGUMENT...

HOLD is the reading end of a pipe whose other end those hold who need the program; KEEP is a descriptor that the program
keeps open (the lock on its data).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from types import FrameType

PATIENCE = 5.0  # seconds for the program to end by itself when it is told to; saving what it has takes less
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def guard(hold: int, keep: int, command: list[str]) -> int:
    """Run `command`, end it when nobody holds the pipe any more, and return its exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever signals all processes at once does not end it too early
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, _note)
    program = subprocess.Popen(command, pass_fds=(keep,), stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509, S603
    while program.poll() is None:
        ready, _, _ = select.select([hold, wake], [], [])
        if hold in ready and not os.read(hold, 64):
            return _end(program)
        if wake in ready:
            os.read(wake, 64)
    return program.returncode


def _end(program: subprocess.Popen[bytes]) -> int:
    program.terminate()
    try:
        return program.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        return program.wait()


def _note(number: int, frame: FrameType | None) -> None:
    """The number is in the pipe already."""


def _die_with_parent() -> None:
    # Linux only: a guardian that is killed takes its program with it.
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - not where it is of no use

        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    code = guard(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    sys.exit(code if code >= 0 else 128 - code)
