"""A client that takes so many messages in a write gets no more in one, and all the same in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from tests.test_told import running_hub, told
from triocast import Draft, Message, Policy
from triocast.connection import open_connection
from triocast.core.recovery import OLDEST, Join, Wish
from triocast.core.wire import JSON, Told
from triocast.hub import Hub
from triocast.testing import MemoryTransport

LIMITS = pytest.mark.parametrize("limit", [1, 2, 3, 1000])


class Few(MemoryTransport):
    """Keeps count of each write."""

    def __init__(self, limit: int) -> None:
        super().__init__(JSON)
        self.limit = limit
        self.writes: list[int] = []

    async def send(self, told: Sequence[Told]) -> None:
        self.writes.append(sum(isinstance(each, Message) for each in told))
        await super().send(told)


async def _publish(hub: Hub, *keys: str) -> None:
    for key in keys:
        await hub.publish("g", Draft.of(key, key=key))


async def _seen(hub: Hub, limit: int, wish: Wish | None, *then: str, stalled: bool = False) -> list[Any]:
    """Return what such a client is told, of what it wishes for and of what is published `then`."""
    transport = Few(limit)
    async with open_connection(hub, transport, ["g"], {"g": wish}):
        await trio.testing.wait_all_tasks_blocked()
        if stalled:
            transport.stall()
        await _publish(hub, *then)
        transport.resume()
        await trio.testing.wait_all_tasks_blocked()
    assert max(transport.writes) <= limit
    return told(transport)


@LIMITS
async def test_of_history(limit: int) -> None:
    async with running_hub(history_size=8) as hub:
        await _publish(hub, *"abcdefghij")
        assert await _seen(hub, limit, OLDEST) == ["g@2", *range(3, 11)]
        assert hub.meters.of("g").delivered == 8


@LIMITS
async def test_of_last_values(limit: int) -> None:
    async with running_hub(history_size=2, join=Join.LAST) as hub:
        await _publish(hub, *"abcbdeffff")
        assert await _seen(hub, limit, None) == ["g@0", 1, (2, 2), 3, 4, 5, 6, (7, 9), 10]


@LIMITS
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.DROP_OLDEST, ["g@0", (1, 3), 4, 5, 6, 7]),
        (Policy.LATEST, ["g@0", (1, 3), (4, 4), 5, 6, 7]),
        (Policy.DROP_NEWEST, ["g@0", 1, 2, 3, 4, (5, 7)]),
    ],
)
async def test_of_what_it_is_behind(limit: int, policy: Policy, expected: list[Any]) -> None:
    async with running_hub(max_lag=4, policy=policy) as hub:
        assert await _seen(hub, limit, None, *"abxcdce", stalled=True) == expected
