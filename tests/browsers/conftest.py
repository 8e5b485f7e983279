"""The browser and the npm package that the tests here need. Without one they are skipped, and fail in CI.

Nothing that they start outlives the tests that ask for it.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.browsers.chromium import Chromium
from tests.e2e.processes import missing, tool


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    path = tool("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        missing("playwright")
    browser = Chromium(playwright, path)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def node() -> str:
    """Node, which finds npm's `eventsource` (by NODE_PATH)."""
    path = tool("node")
    if subprocess.run([path, "-e", "require.resolve('eventsource')"], capture_output=True, check=False).returncode:
        missing("eventsource, of npm,")
    return path
