"""Runs the README's walkthrough: its commands are typed, and what they print is held against it."""

from __future__ import annotations

import re
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.e2e.processes import PATIENCE, Process, run, running

README = Path(__file__).parent.parent / "README.md"


@dataclass(frozen=True, slots=True)
class Step:
    """One command and the lines that the README shows below it."""

    how: str  # serve, background or foreground
    command: str
    output: tuple[str, ...]


def steps(text: str) -> list[Step]:
    """Read the walkthrough's steps, in the order in which they stand."""
    found = []
    for how, block in re.findall(r"<!-- walkthrough: (\w+) -->\n```console\n(.*?)```", text, re.DOTALL):
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            found.append(Step(how, command, tuple(output.splitlines())))
    return found


def block(text: str, marker: str) -> str:
    """Return the code block that follows a marker comment."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found is not None, marker
    return found[1]


def pattern_of(line: str) -> str:
    """Return what a line of the README stands for; an ellipsis stands for anything."""
    # wscat marks what came in only on a terminal.
    return r"(?m)^\s*" + re.escape(line.removeprefix("< ").strip()).replace("…", ".*") + r"\s*$"


async def walk(plan: Sequence[Step], port: int, program: Callable[[str], str]) -> None:
    """Type every command, on another port than the README's so that nothing is in the way.

    `program` says where a client program is.
    """
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        listening: list[tuple[Step, Process]] = []
        for step in plan:
            name, *words = (word.replace(":8000", f":{port}") for word in shlex.split(step.command))
            if step.how == "foreground":
                words = ["--ignore-stdin", "--pretty=format", *words] if name == "http" else words
                _check(step, await run(program(name), *words, TRIOCAST_URL=url))
                continue
            words = [*words, "--bind", f"127.0.0.1:{port}"] if step.how == "serve" else words
            process = await stack.enter_async_context(running(program(name), *words, TRIOCAST_URL=url))
            if step.how == "serve":
                await _wait_for_lines(step, process, port)
            else:
                listening.append((step, process))
                await _wait_subscribers(url, len(listening))
        for step, process in listening:
            await _wait_for_lines(step, process, port)


async def _wait_for_lines(step: Step, process: Process, port: int) -> None:
    for line in step.output:
        await process.wait_for(pattern_of(line.replace(":8000", f":{port}")))


def _check(step: Step, done: subprocess.CompletedProcess[bytes]) -> None:
    assert done.returncode == 0, (step, done)
    for line in step.output:
        assert re.search(pattern_of(line), done.stdout.decode()), (step.command, line, done.stdout.decode())


async def _wait_subscribers(url: str, count: int) -> None:
    with trio.fail_after(PATIENCE):
        while f'"subscribers":{count},' not in await trio.to_thread.run_sync(_group, url):
            await trio.sleep(0.02)


def _group(url: str) -> str:
    with urllib.request.urlopen(f"{url}/groups/sample") as answer:
        text: str = answer.read().decode()
        return text
