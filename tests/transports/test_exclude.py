"""A message that excludes one client, by every way to write over real sockets: the others notice nothing of it."""

from __future__ import annotations

import msgspec
import pytest

from tests.sse import Event
from tests.transports.stage import WAYS, Contexts, stage
from tests.transports.stage import Way as SocketWay
from tests.transports.test_events import WAYS as EVENT_WAYS
from tests.transports.test_events import Way as EventWay
from tests.transports.test_events import stage as event_stage

WORDS = "words that can be compressed, " * 20


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_bare_payloads_go_on_with_what_follows(way: SocketWay, contexts: Contexts) -> None:
    async with stage(way, contexts) as staged:
        peers = [await staged.connect("a") for _ in range(4)]
        author, *others = peers
        group = staged.push.group("a")
        for number in range(9):
            await group.send(f"{number} {WORDS}", exclude=author.connection if number % 3 == 0 else None)
        everything = [f"{number} {WORDS}".encode() for number in range(9)]
        assert await author.messages(6) == [each for number, each in enumerate(everything) if number % 3]
        for peer in others:
            assert await peer.messages(9) == everything


@pytest.mark.parametrize("way", EVENT_WAYS, ids=str)
async def test_events_say_that_it_was_delivered_and_move_the_position(way: EventWay, contexts: Contexts) -> None:
    async with event_stage(way, contexts) as staged:
        author = await staged.connect()
        await author.listen(way.target, version=way.version)
        greetings = await author.events(len(way.groups))
        joined = [msgspec.json.decode(each.data)["joined"] for each in greetings]
        other = await staged.listener()
        group = staged.app.push.group("a")
        epoch = (await group.info()).epoch
        for number in range(1, 5):
            await group.send(str(number), exclude=joined[0]["client"] if number % 2 == 0 else None)
        # Of several groups every event has all the positions.
        rest = greetings[-1].id.partition(",")[2]
        ids = [f"{epoch}:{number}" + (f",{rest}" if rest else "") for number in range(1, 5)]
        delivered = '{"group":"a","delivered":{"epoch":"%s","offset":%d}}'
        assert await author.events(4) == [
            Event("message", "1", ids[0]),
            Event("delivered", delivered % (epoch, 2), ids[1]),
            Event("message", "3", ids[2]),
            Event("delivered", delivered % (epoch, 4), ids[3]),
        ]
        assert [each.data for each in await other.events(4)] == ["1", "2", "3", "4"]


async def test_an_event_source_that_comes_back_behind_it_misses_nothing(contexts: Contexts) -> None:
    way = EVENT_WAYS[0]
    async with event_stage(way, contexts) as staged:
        author = await staged.connect()
        await author.listen(way.target)
        (greeting,) = await author.events(1)
        client = msgspec.json.decode(greeting.data)["joined"]["client"]
        group = staged.app.push.group("a")
        await group.send("own", exclude=client)
        (told,) = await author.events(1)
        author.reset()
        await group.send("next")
        again = await staged.connect()
        await again.listen(way.target, f"Last-Event-ID: {told.id}")
        assert [(each.name, each.data) for each in (await again.events(2))[1:]] == [("message", "next")]
