"""Client programs for the end-to-end tests; one that is missing skips its tests with its name, and fails them in CI."""

from __future__ import annotations

import pytest

from tests.e2e.processes import tool

pytest_plugins = ["tests.redis_servers"]


@pytest.fixture
def wscat() -> str:
    return tool("wscat")


@pytest.fixture
def http() -> str:
    return tool("http")


@pytest.fixture
def curl() -> str:
    return tool("curl")
