from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from triocast.serve.house import House, open_house


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
