"""Who is in a group, as every engine tells it: to hosts, to inboxes, and a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import trio
import trio.testing

from tests.engines.every import MakeEngine, eventually
from triocast import (
    GroupSettings,
    Settings,
)
from triocast.core.identity import Identity
from triocast.core.presence import Change, Departed, Entered, Member, Moved, Reason
from triocast.engines import Nobody
from triocast.inbox import Inbox

ANN = Identity.of("ann", {"name": "Ann"})


class Told(Nobody):
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Change | str] = []

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        self.told += [*["occupied"] * occupied, *changes, *["vacated"] * vacated]


async def test_members_come_and_go_and_one_host_is_told(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    await nursery.start(engine.run, host)
    ann, other = Member("c1", ANN), Member("c2", Identity.of(info={"x": 1}, claimed=True))
    wanted: list[Change | str] = ["occupied", Entered(ann), Entered(other)]
    for each in (ann, other, ann):
        engine.enter("g", each)
    await eventually(lambda: len(host.told) >= 3)
    assert host.told == wanted
    page = await engine.members("g", None, 10)
    assert (list(page.members), page.count, page.users, page.next) == ([ann, other], 2, 1, None)
    engine.depart("g", "c1", Reason.REMOVED)
    engine.depart("g", "c2", Reason.LEFT)
    engine.depart("g", "nobody", Reason.LEFT)
    await eventually(lambda: len(host.told) >= 6)
    assert host.told == [*wanted, Departed(ann, Reason.REMOVED), Departed(other, Reason.LEFT), "vacated"]
    assert (await engine.members("g", None, 10)).count == 0


async def test_members_are_paged_in_the_order_of_their_connections(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    await nursery.start(engine.run, host)
    clients = [f"{number:03}-Az_" for number in range(250)]
    for client in Random(1).sample(clients, k=250):
        engine.enter("g", Member(client, ANN))
    await eventually(lambda: len(host.told) >= 251)
    found, after = [], None
    while True:
        page = await engine.members("g", after, 100)
        assert (page.count, page.users) == (250, 1)
        found += [member.client for member in page.members]
        after = page.next
        if after is None:
            break
        assert len(found) % 100 == 0
    assert found == clients


async def test_who_comes_back_within_the_grace_has_moved_and_who_does_not_has_left_when_it_is_over(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings(presence_grace=1.5)), Told()
    await nursery.start(engine.run, host)
    ann, back, other = Member("c1", ANN), Member("c3", ANN), Member("c2", Identity.of("bob"))
    for each in (ann, other):
        engine.enter("g", each)
    await eventually(lambda: len(host.told) >= 3)
    host.told.clear()
    for each in (ann, other):
        engine.depart("g", each.client, Reason.LEFT)
    engine.enter("g", back)
    await eventually(lambda: host.told)
    assert host.told == [Moved(back, "c1")]
    assert [each.client for each in (await engine.members("g", None, 10)).members] == ["c2", "c3"]
    await eventually(lambda: len(host.told) >= 2)
    assert host.told[1:] == [Departed(other, Reason.LEFT)]
    engine.depart("g", "c3", Reason.REMOVED)
    await eventually(lambda: len(host.told) >= 4)
    assert host.told[2:] == [Departed(back, Reason.REMOVED), "vacated"]


async def test_groups_that_want_no_presence_have_no_members(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine = make_engine(Settings(namespaces={"quiet": GroupSettings(presence=False)}))
    host = Told()
    await nursery.start(engine.run, host)
    engine.enter("quiet:g", Member("c1"))
    engine.depart("quiet:g", "c1", Reason.LEFT)
    engine.enter("g", Member("c2"))
    await eventually(lambda: len(host.told) >= 2)
    assert host.told == ["occupied", Entered(Member("c2"))]
    assert (await engine.members("quiet:g", None, 10)).count == 0


async def test_an_inbox_is_told_who_comes_and_goes(
    make_engine: MakeEngine, nursery: trio.Nursery, clock: trio.testing.MockClock | None
) -> None:
    engine, host, inbox = make_engine(Settings()), Told(), Inbox(10)
    await nursery.start(engine.run, host)
    async with engine.subscribe("g", inbox):
        inbox.notices.arouse = lambda: None
        joined: list[Member] = []
        left: list[tuple[str, Reason]] = []

        def heard(count: int) -> bool:
            for event in inbox.notices.take("g"):
                joined.extend(event.joined)
                left.extend(event.left)
            return len(joined) + len(left) >= count

        engine.enter("g", Member("c1", ANN))
        engine.enter("g", Member("c2"))
        await eventually(lambda: heard(2))
        engine.depart("g", "c1", Reason.REMOVED)
        await eventually(lambda: heard(3))
        assert (joined, left) == ([Member("c1", ANN), Member("c2")], [("c1", Reason.REMOVED)])
        inbox.close()


async def test_who_was_here_has_left_when_the_engine_ends(
    make_engine: MakeEngine, clock: trio.testing.MockClock | None
) -> None:
    engine, host = make_engine(Settings()), Told()
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run, host)
        engine.enter("g", Member("c1", ANN))
        await eventually(lambda: len(host.told) >= 2)
        nursery.cancel_scope.cancel()
    assert host.told[2:] == [Departed(Member("c1", ANN), Reason.LEFT), "vacated"]
