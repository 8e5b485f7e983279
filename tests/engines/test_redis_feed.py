from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.redis_engines import KEYS
from triocast import EngineUnavailable, Position, Settings
from triocast.engines.redis.connection import Access
from triocast.engines.redis.feed import AGAIN, LONGEST, Feed
from triocast.engines.redis.follow import Follow
from triocast.engines.redis.line import Means
from triocast.engines.redis.routing import OneServer
from triocast.engines.redis.store import Store
from triocast.inbox import Inbox
from triocast.settings.redis_address import parse_redis_address


class Refusing:
    """A way to a server that is out of memory, until it is not."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.refusing = True

    async def call(self, partition: int, *command: bytes | str | int) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        if self.refusing:
            raise EngineUnavailable("out of memory")
        return [b"epoch", b"3", b"id"]


async def test_a_server_that_can_t_answer_about_groups_is_asked_ever_less_often_until_it_can(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Refusing()
    router = OneServer(parse_redis_address("redis://h"), Means(Access(), 5.0, random.Random(1)))
    feed = Feed(router.wires[0], Store(server, Settings(), KEYS), router)
    follow = Follow("g", KEYS.of("g"), Inbox(10))
    feed.add(follow)
    feed._fresh.clear()  # as when it is subscribed to
    feed._unseen[follow.names.channel] = follow
    nursery.start_soon(feed._look)
    await trio.sleep(60)
    pauses = [later - earlier for earlier, later in pairwise(server.asked)]
    assert pauses[:5] == pytest.approx([AGAIN, 2 * AGAIN, 4 * AGAIN, 8 * AGAIN, 16 * AGAIN])
    assert pauses[5:] == pytest.approx([LONGEST] * len(pauses[5:]))
    server.refusing = False
    await trio.sleep(LONGEST)
    assert (follow.live, follow.head) == (True, Position("epoch", 3))
    nursery.cancel_scope.cancel()
