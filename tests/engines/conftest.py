"""Makes each engine for the suites that all of them pass."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.engines.every import IN_MEMORY, ON_SERVERS, MakeEngine, url_of
from triocast.engines.redis.engine import RedisEngine


@pytest.fixture(params=[*IN_MEMORY, *ON_SERVERS])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    if request.param in IN_MEMORY:
        return IN_MEMORY[request.param]
    server = request.getfixturevalue(request.param)
    return lambda settings: RedisEngine(settings, url_of(server))


@pytest.fixture(params=list(IN_MEMORY))
def make_timed_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Engines whose time is the test's own; a server's passes by itself."""
    return IN_MEMORY[request.param]


@pytest.fixture
def clock(make_engine: MakeEngine) -> trio.testing.MockClock | None:
    if make_engine in IN_MEMORY.values():
        return trio.testing.MockClock(autojump_threshold=0)
    return None
