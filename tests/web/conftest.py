"""What the tests of the web face share."""

from __future__ import annotations

import hypercorn.trio.run
import pytest


@pytest.fixture
def hypercorn_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the hardened connection class out of Hypercorn again after a test that puts it there."""
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", hypercorn.trio.run.TCPServer)
