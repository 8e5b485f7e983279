"""What a new user does: python -m tests.fresh_install FOLDER (FOLDER/alone has the wheel and no more).

Runs the README's walkthrough against that wheel, then the README's first command in a copy of the checkout.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import trio

from tests.e2e.processes import running, tool
from tests.walkthrough import README, block, steps, walk


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def walk_with_the_wheel(alone: Path) -> None:
    """The walkthrough, with `triocast` from the wheel and nothing of this checkout."""
    plan = [step for step in steps(README.read_text()) if _there(step.command.split()[0])]
    await walk(plan, free_port(), lambda name: str(alone / "bin/triocast") if name == "triocast" else tool(name))
    print(f"walkthrough: {len(plan)} commands did what the README says")


async def run_the_first_command(copy: Path) -> None:
    """The README's first command, typed in a clean copy; it must get as far as listening."""
    copy.mkdir()
    archive = subprocess.run(["git", "-C", str(README.parent), "archive", "HEAD"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(copy)], input=archive.stdout, check=True)
    command = block(README.read_text(), "run command").strip()
    async with running("bash", "-c", f"cd {copy} && {command} --bind 127.0.0.1:{free_port()}") as program:
        with trio.fail_after(600):
            while not re.search(r"listening on\s+http://127", program.output):
                assert program.process.returncode is None, program.output
                await trio.sleep(0.1)
    print("the first command of the README serves")


def _there(name: str) -> bool:
    """Whether a client is there; in CI all must be (`tool` says so)."""
    try:
        return name == "triocast" or bool(tool(name))
    except BaseException as skipped:
        if type(skipped).__name__ != "Skipped":
            raise
        print(f"left out: {name} is not installed")
        return False


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    trio.run(walk_with_the_wheel, folder / "alone")
    trio.run(run_the_first_command, folder / "copy")
