"""The garbage collector is tuned by `triocast serve`, and by nothing else."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from triocast import Settings
from triocast.link.host import open_host
from triocast.serve.collector import ALL, MIDDLE, YOUNG, tune_collector
from triocast.web import create_app


@pytest.fixture
def collector() -> Iterator[tuple[int, int, int]]:
    """The collector's thresholds, which are put back after the test."""
    before = gc.get_threshold()
    yield before
    gc.unfreeze()
    gc.set_threshold(*before)


def test_the_server_looks_at_everything_rarely_and_at_what_it_began_with_never(collector: tuple[int, int, int]) -> None:
    tune_collector()
    assert gc.get_threshold() == (YOUNG, MIDDLE, ALL) != collector
    assert gc.get_freeze_count() > 1_000


async def test_the_library_leaves_the_collector_alone(collector: tuple[int, int, int]) -> None:
    frozen = gc.get_freeze_count()
    async with open_host(create_app(Settings()), Settings()):
        assert gc.get_threshold() == collector
        assert gc.get_freeze_count() == frozen
