"""A crew whose system has no room for what it needs: for a process, or for the roster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from triocast.serve.crew import Crew, WorkersFailed
from triocast.serve.house import House
from triocast.settings import Settings

PATIENCE = 20.0  # seconds, on a busy machine
WORKER = f"""#!{sys.executable}
import json, os, sys
order = json.loads(sys.stdin.readline())
os.write(order["report"], b"ready\\n")
sys.stdin.read()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "worker"
    path.write_text(WORKER)
    path.chmod(0o700)
    return path


async def eventually(true: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not true():
            await trio.sleep(0.01)


async def test_a_worker_that_can_t_be_started_again_is_once_it_can(
    program: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = Crew(Settings(workers=2), [str(program)], House(tmp_path), [], [])
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.run, ready.set)
        with trio.fail_after(PATIENCE):
            await ready.wait()
        first, second = crew._processes
        hidden = program.rename(tmp_path / "hidden")
        first.kill()
        await eventually(lambda: f"worker {first.order.number} can't be started" in caplog.text)
        assert crew._processes == {second}
        await crew.renew()
        assert second.running
        assert "the old ones go on" in caplog.text
        hidden.rename(program)
        await eventually(lambda: len(crew._processes) == 2)
        assert second in crew._processes
        nursery.cancel_scope.cancel()
    await crew.end_at_once()


async def test_a_first_worker_that_can_t_be_started_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crew = Crew(Settings(workers=1), [str(tmp_path / "nothing")], House(tmp_path), [], [])
    with pytest.RaisesGroup(WorkersFailed):
        await crew.run(lambda: None)
    assert "worker 1 can't be started: [Errno 2]" in caplog.text


async def test_without_room_for_the_roster_workers_run_all_the_same(
    program: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = Crew(Settings(workers=1), [str(program)], House(tmp_path / "gone"), [], [])
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.run, ready.set)
        with trio.fail_after(PATIENCE):
            await ready.wait()
        assert "the roster can't be written" in caplog.text
        nursery.cancel_scope.cancel()
    await crew.end_at_once()
