"""Connections that come and go so fast that descriptors are reused at once: nobody gets what was for another."""

from __future__ import annotations

import random
from itertools import count

import pytest
import trio

from tests.link.harness import close_frame
from tests.transports.stage import DIRECT, TINY, Contexts, Peer, Stage, stage
from tests.transports.strict import CLOSE
from triocast import Settings

SETTINGS = Settings(write_timeout=600, close_timeout=0.2, max_lag=16)
GROUPS = "abcdef"
VISITORS, VISITS = 12, 20  # at once, and one after the other


def content(group: str, number: int) -> bytes:
    """Return a message in which every byte but its number's says whose it is."""
    return b"%d" % number + group.encode() * random.Random(number).choice([1, 200, 3_000, 40_000])


@pytest.mark.parametrize("seed", range(3))
async def test_no_client_ever_gets_the_bytes_of_another_group(seed: int, contexts: Contexts) -> None:
    numbers: list[int] = []

    async def come_and_go(served: Stage, rng: random.Random) -> None:
        for _ in range(VISITS):
            group = rng.choice(GROUPS)
            peer = await served.connect(group, buffer=rng.choice([TINY, 2 * TINY]))
            numbers.extend(link.writer.socket.fileno() for link in served.links)
            await _take_and_leave(peer, group, rng)

    async with stage(DIRECT, contexts, SETTINGS, send_buffer=TINY) as served, trio.open_nursery() as publishers:
        for group in GROUPS:
            publishers.start_soon(_publish_on, served, group)
        async with trio.open_nursery() as visitors:
            for index in range(VISITORS):
                visitors.start_soon(come_and_go, served, random.Random(seed * 1_000 + index))
        publishers.cancel_scope.cancel()
        await served.wait_left()
        assert served.push.hub.groups == 0
    # Two descriptors a visit, were none used again; those of a few sockets that linger come on top.
    assert len(set(numbers)) < VISITORS * VISITS / 2


async def _publish_on(served: Stage, group: str) -> None:
    for number in count():
        await served.publish(group, content(group, number))


async def _take_and_leave(peer: Peer, group: str, rng: random.Random) -> None:
    """Take some messages, each of which must be of the group, and leave in some manner, mostly without a word."""
    peer.bite = rng.choice([100, 5_000, 65_536])
    for _ in range(rng.randrange(5)):
        _check(await peer.message(), group)
    match rng.randrange(6):
        case 0 | 1:
            peer.reset()
        case 2 | 3:
            peer.leave()
        case 4:
            peer.connection.abort()
        case 5:
            await peer.send_bytes(close_frame(1000))
    for frame in await peer.to_the_end():
        if frame.opcode != CLOSE:
            _check(frame.payload, group)
    peer.leave()


def _check(message: bytes, group: str) -> None:
    number = int(message.rstrip(group.encode()))
    assert message == content(group, number)
