"""The private folder that the processes of one server share: their sockets, and the roster of who is who.

Only the server's own user may look into it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from triocast.settings.address import MAX_UNIX_PATH

PREFIX = "triocast-"
ROSTER = "roster.json"
SOCKET = ".sock"
LONGEST_NAME = 40  # of what stands in the folder, the slash before it included


@dataclass(frozen=True, slots=True)
class House:
    """The folder `path`, and in it a socket for every worker, named by nobody's number: two may have the same for a
    while, the one that comes and the one that goes.

    Nobody removes it as long as somebody has inherited `lock`.
    """

    path: Path
    lock: int = -1

    def write_roster(self, roster: Mapping[str, str]) -> None:
        """Say which socket belongs to the worker of each label; whoever reads finds the old or the new, whole."""
        new = self.path / f"{ROSTER}.new"
        new.write_bytes(msgspec.json.encode(roster))
        new.replace(self.path / ROSTER)

    def read_roster(self) -> dict[str, str]:
        """Return the name of every worker's socket by the worker's label."""
        return msgspec.json.decode((self.path / ROSTER).read_bytes(), type=dict[str, str])

    def leave(self, socket: str, *, orphaned: bool) -> None:
        """Remove a worker's socket; the last of those that have outlived their supervisor removes everything."""
        with suppress(FileNotFoundError):
            (self.path / socket).unlink()
        if orphaned and not any(self.path.glob(f"*{SOCKET}")):
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def open_house() -> Iterator[House]:
    """Make the folder, and remove it at the end of the block with all that is in it.

    Those of servers that were killed with all their processes go first: they can be as large as what was published.
    """
    place = _place()
    for other in Path(place).glob(f"{PREFIX}*"):
        _remove_abandoned(other)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # for its owner only (0700)
    lock = os.open(path, os.O_RDONLY)
    try:
        # What cleans temporary folders of old files (systemd-tmpfiles) leaves alone those that are locked. Ours has
        # files that are not touched for weeks: the roster, and what Valkey has kept since it last rewrote its file.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield House(path, lock)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Remove a folder that is a house of ours in which nobody is any more; what can't be known to be one stays."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        about = os.fstat(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # One that has no roster yet was made a moment ago, and is about to be locked.
        if (about.st_uid, about.st_mode & 0o777) == (os.getuid(), 0o700) and (path / ROSTER).is_file():
            shutil.rmtree(path)
    except OSError:  # somebody has it, or it goes at this moment
        return
    finally:
        os.close(lock)


def _place() -> str:
    """Return where the folder goes: where temporary files do, unless the sockets' paths became too long there."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) + LONGEST_NAME < MAX_UNIX_PATH
    return usual if fits else "/tmp"  # noqa: S108 - the folder in it is made by mkdtemp
