"""The browser and the npm package that the tests here need; one that is missing skips them with its name, or fails in CI."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.browsers.chromium import Chromium
from tests.e2e.processes import missing, tool


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    path = tool("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    browser = Chromium(sync_playwright, path)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def node() -> str:
    """Node, which finds npm's `eventsource` (by NODE_PATH)."""
    path = tool("node")
    if subprocess.run([path, "-e", "require.resolve('eventsource')"], capture_output=True, check=False).returncode:
        missing("eventsource, of npm,")
    return path
