"""The application that Hypercorn imports: its settings, and how it says that they are wrong."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from quart_trio import QuartTrio

from triocast import Triocast


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hypercorn_restored: None) -> None:
    monkeypatch.chdir(tmp_path)


def load() -> QuartTrio:
    app: QuartTrio = runpy.run_module("triocast.asgi")["app"]
    return app


def test_settings_come_from_variables_and_the_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("max_message = 5\nmax_connections = 6\n")
    monkeypatch.setenv("TRIOCAST_CONFIG", "other.toml")
    monkeypatch.setenv("TRIOCAST_MAX_MESSAGE", "7")
    push: Triocast = load().extensions["triocast"]
    assert (push.settings.max_message, push.settings.max_connections) == (7, 6)


def test_wrong_settings_end_the_import_with_2_and_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIOCAST_MAX_MESSAGE", "many")
    monkeypatch.setenv("TRIOCAST_NONESUCH", "1")
    with pytest.raises(SystemExit) as ended:
        load()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("triocast: TRIOCAST_") for line in lines)
