from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from triocast.serve.house import House, open_house


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of this test alone, with a short name."""
    with tempfile.TemporaryDirectory(prefix="h-") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def abandoned(path: Path) -> Path:
    """Make what a server leaves that was killed."""
    (path / "data").mkdir(parents=True)
    path.chmod(0o700)
    (path / "data" / "appendonly.aof").write_bytes(b"much")
    House(path).write_roster({"1": "a.sock"})
    return path


def test_a_house_that_was_abandoned_is_removed_with_the_next_one_made(place: Path) -> None:
    old = abandoned(place / "triocast-old")
    with open_house() as house:
        assert not old.exists()
        assert list(place.iterdir()) == [house.path]


def test_a_house_in_which_somebody_is_stays(place: Path) -> None:
    with open_house() as one:
        one.write_roster({"1": "a.sock"})
        heir = os.dup(one.lock)  # as a worker inherits it, which lives on when its supervisor is killed
        with open_house():
            assert one.read_roster() == {"1": "a.sock"}
        os.close(heir)


def test_what_can_not_be_known_to_be_abandoned_stays(place: Path) -> None:
    shown = abandoned(place / "triocast-shown")
    shown.chmod(0o755)
    (place / "triocast-just-made").mkdir(mode=0o700)
    abandoned(place / "another")
    (place / "triocast-link").symlink_to(place / "another")
    (place / "triocast-file").touch()
    before = sorted(place.rglob("*"))
    with open_house():
        pass
    assert sorted(place.rglob("*")) == before


def test_a_house_is_private_and_gone_at_the_end_with_what_is_in_it() -> None:
    with open_house() as house:
        assert house.path.stat().st_mode & 0o777 == 0o700
        house.write_roster({"1": "a.sock"})
        (house.path / "a.sock").touch()
    assert not house.path.exists()


def test_a_house_is_locked_against_those_who_clean_up_old_files() -> None:
    with open_house() as house:
        other = os.open(house.path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


def test_a_roster_is_replaced_as_a_whole() -> None:
    with open_house() as house:
        for roster in ({"1": "a.sock"}, {"1": "b.sock", "1-leaving": "a.sock"}):
            house.write_roster(roster)
            assert house.read_roster() == roster


def test_where_the_usual_place_has_too_long_a_name_another_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with open_house() as house:
        assert house.path.parent == Path("/tmp")


def test_orphans_remove_the_house_with_the_last_of_them(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    house.path.mkdir()
    for name in ("a.sock", "b.sock", "c.sock", "roster.json"):
        (house.path / name).touch()
    house.leave("a.sock", orphaned=False)
    house.leave("b.sock", orphaned=True)
    assert sorted(path.name for path in house.path.iterdir()) == ["c.sock", "roster.json"]
    house.leave("c.sock", orphaned=True)
    assert not house.path.exists()
