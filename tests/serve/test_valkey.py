from __future__ import annotations

import sys
from pathlib import Path

import pytest

from triocast.serve.house import open_house
from triocast.serve.valkey import Valkey, ValkeyFailed


async def test_a_system_without_room_for_a_process_is_no_crash_but_a_valkey_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with open_house() as house:
        valkey = Valkey("valkey-server", house, tmp_path, fleeting=True)
        try:
            with pytest.raises(ValkeyFailed, match=r"can't be started: .*No such file"):
                await valkey.start()
        finally:
            valkey.let_go()
