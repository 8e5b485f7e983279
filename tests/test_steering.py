"""Parting with clients, in one process: their connections are closed, or they are taken out of a group and told so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from triocast import (
    ConnectionEnded,
    Draft,
    InvalidClose,
    InvalidGroupName,
    InvalidIdentity,
    Message,
    Settings,
    Triocast,
)
from triocast.connection import Connection, open_connection
from triocast.core.identity import Identity
from triocast.core.names import is_connection_id
from triocast.core.presence import Reason
from triocast.core.recovery import OLDEST
from triocast.core.steering import Order, close_of
from triocast.core.wire import JSON, RAW, Joined, Left
from triocast.core.wire.format import Format, Presence
from triocast.engines.memory import MemoryEngine
from triocast.errors import FORCED, Close
from triocast.hub import Hub
from triocast.inbox import Inbox
from triocast.steering import CHUNK
from triocast.testing import Closed, MemoryTransport, simulate

GO = Close(4001, "go")


@asynccontextmanager
async def running_hub(engine: type[MemoryEngine] = MemoryEngine, **values: Any) -> AsyncIterator[Hub]:
    settings = Settings(**values)
    hub = Hub(settings, engine(settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        hub.stop()


@asynccontextmanager
async def client(
    hub: Hub, *groups: str, form: Format = RAW, user: str | None = None
) -> AsyncIterator[tuple[Connection, MemoryTransport]]:
    """A client whose handler reads; leaving waits until it is gone, if it is parted with."""
    transport = MemoryTransport(form)
    opened = trio.Event()
    found: list[Connection] = []

    async def handle() -> None:
        async with open_connection(hub, transport, groups, identity=Identity.of(user)) as connection:
            found.append(connection)
            opened.set()
            async for _ in connection:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle)
        await opened.wait()
        await trio.testing.wait_all_tasks_blocked()
        yield found[0], transport
        nursery.cancel_scope.cancel()


async def settled(hub: Hub, order: Order) -> int:
    """Have it carried out, and return once everybody has been told; how many it was true of."""
    outcome = await hub.order(order)
    assert not outcome.approximate
    await trio.testing.wait_all_tasks_blocked()
    return outcome.count


async def test_a_connection_is_closed_by_its_id_and_told_why_once() -> None:
    async with running_hub() as hub, client(hub, "g") as (one, seen), client(hub, "g") as (_, other):
        assert await settled(hub, Order(GO, client=one.id)) == 1
        assert seen.closed == GO
        assert (hub.connections, (await hub.info("g")).subscribers) == (1, 1)
        assert await settled(hub, Order(FORCED, client=one.id)) == 0
        assert (seen.closed, other.closed) == (GO, None)


async def test_all_connections_of_a_user_are_closed_and_nobody_elses() -> None:
    async with (
        running_hub() as hub,
        client(hub, user="ann") as (_, first),
        client(hub, user="ann") as (_, second),
        client(hub, user="ann2") as (_, other),
        client(hub) as (_, nobody),
    ):
        assert await settled(hub, Order(FORCED, user="ann")) == 2
        assert [each.closed for each in (first, second, other, nobody)] == [FORCED, FORCED, None, None]
        assert await settled(hub, Order(FORCED, user="ann")) == 0
        assert await settled(hub, Order(FORCED, user="nobody")) == 0


async def test_the_index_of_users_is_as_large_as_those_who_are_here() -> None:
    async with running_hub() as hub:
        for _ in range(3):
            async with client(hub, user="ann"), client(hub, user="bob"), client(hub):
                assert {user: len(hub.roster.of_user(user)) for user in ("ann", "bob")} == {"ann": 1, "bob": 1}
        assert hub.roster._by_user == {}


async def test_a_user_with_many_connections_leaves_others_their_turns() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with running_hub() as hub, trio.open_nursery() as nursery:
        for _ in range(5 * CHUNK):
            hub.roster.admit(Connection(hub, MemoryTransport(), identity=Identity.of("ann")))
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        before = turns
        assert (await hub.order(Order(FORCED, user="ann"))).count == 5 * CHUNK
        assert turns - before >= 4
        nursery.cancel_scope.cancel()


async def test_who_came_after_the_order_was_given_may_stay(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub, client(hub, user="ann") as (_, old):
        await trio.sleep(10)
        async with client(hub, user="ann") as (_, new):
            await trio.sleep(5)
            assert await hub.obey(Order(FORCED, user="ann"), age=7.0) == 1
            await trio.testing.wait_all_tasks_blocked()
            assert (old.closed, new.closed) == (FORCED, None)
            assert await hub.obey(Order(FORCED, user="ann"), age=4.0) == 1


async def test_who_is_removed_is_told_why_behind_what_it_was_given_and_its_other_groups_go_on() -> None:
    async with running_hub() as hub, client(hub, "g", "h", form=JSON) as (one, seen):
        epoch = (await hub.publish("g", Draft.of("x"))).epoch
        await trio.testing.wait_all_tasks_blocked()
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 1
        assert seen.received[-1] == Left("g", epoch, 1, GO)
        assert isinstance(seen.received[-2], Message)
        assert one.groups == ["h"]
        await hub.publish("g", Draft.of("not for you"))
        await hub.publish("h", Draft.of("y"))
        await trio.testing.wait_all_tasks_blocked()
        last = seen.received[-1]
        assert isinstance(last, Message)
        assert (last.group, last.data, seen.closed) == ("h", b"y", None)
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 0


async def test_who_was_removed_can_be_taken_in_again() -> None:
    async with running_hub() as hub, client(hub, "g", form=JSON) as (one, seen):
        await settled(hub, Order(GO, client=one.id, group="g"))
        await one.join("g")
        await hub.publish("g", Draft.of("x"))
        await trio.testing.wait_all_tasks_blocked()
        assert [type(each) for each in seen.received] == [Joined, Left, Joined, Message]


async def test_a_client_of_bare_payloads_is_closed_instead() -> None:
    async with running_hub() as hub, client(hub, "g", "h") as (one, seen):
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 1
        assert (seen.closed, seen.received) == (GO, [])


@pytest.mark.parametrize("form", [RAW, JSON])
async def test_who_is_no_member_is_not_removed(form: Format) -> None:
    async with running_hub() as hub, client(hub, "h", form=form) as (one, seen):
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 0
        assert (one.groups, seen.closed) == (["h"], None)


class SlowToOpen(MemoryEngine):
    """Groups called "late" open when the test lets them."""

    go = trio.Event()

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Any]:
        if group == "late":
            await self.go.wait()
        async with super().subscribe(group, inbox) as position:
            yield position


@pytest.mark.parametrize("form", [RAW, JSON])
async def test_who_is_about_to_join_is_closed_and_never_gets_in(form: Format) -> None:
    SlowToOpen.go = trio.Event()
    async with (
        running_hub(SlowToOpen) as hub,
        client(hub, "h", form=form) as (one, seen),
        trio.open_nursery() as nursery,
    ):

        async def join() -> None:
            with pytest.raises(ConnectionEnded):
                await one.join("late")

        nursery.start_soon(join)
        await trio.testing.wait_all_tasks_blocked()
        assert await settled(hub, Order(GO, client=one.id, group="late")) == 1
        SlowToOpen.go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (seen.closed, hub.groups) == (GO, 0)


async def test_who_is_removed_during_its_handshake_is_accepted_and_told_why() -> None:
    SlowToOpen.go = trio.Event()
    async with running_hub(SlowToOpen) as hub, trio.open_nursery() as nursery:
        transport = MemoryTransport(JSON)

        async def handle() -> None:
            async with open_connection(hub, transport, ["late", "h"]):
                await trio.sleep_forever()

        nursery.start_soon(handle)
        await trio.testing.wait_all_tasks_blocked()
        (arriving,) = hub.roster
        assert await settled(hub, Order(GO, client=arriving.id, group="late")) == 1
        SlowToOpen.go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (transport.closed, hub.connections, hub.groups) == (GO, 0, 0)


async def test_who_does_not_know_yet_that_it_is_in_can_not_be_told_that_it_is_out() -> None:
    async with running_hub() as hub, client(hub, "h", form=JSON) as (one, seen):
        seen.stall()
        await hub.publish("h", Draft.of("under way"))
        await one.join("g", OLDEST)
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 1
        seen.resume()
        await trio.testing.wait_all_tasks_blocked()
        assert seen.closed == GO
        assert not any(isinstance(each, Left) for each in seen.received)


async def test_a_stalled_member_is_told_when_it_reads_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running_hub() as hub, client(hub, "g", form=JSON) as (one, seen):
        seen.stall()
        await hub.publish("g", Draft.of("never given"))
        await trio.testing.wait_all_tasks_blocked()
        assert await settled(hub, Order(GO, client=one.id, group="g")) == 1
        assert (await hub.info("g")).subscribers == 0
        seen.resume()
        await trio.testing.wait_all_tasks_blocked()
        assert (seen.received[-1], seen.closed) == (Left("g", seen.received[-1].epoch, 0, GO), None)  # type: ignore[union-attr]


def test_a_close_can_be_any_that_means_something_to_a_client() -> None:
    assert close_of() == FORCED
    assert close_of(reason="out") == Close(3503, "out")
    assert close_of(3503, "") == Close(3503, "")
    for code in (1000, 1008, 1011, 1012, 1013, 3000, 3503, 4010, 4999):
        assert close_of(code, "é" * 61 + "x") == Close(code, "é" * 61 + "x")
        assert close_of(code).code == code


@pytest.mark.parametrize("code", [0, -1, 999, 1001, 1002, 1005, 1006, 1009, 1010, 1014, 1015, 2999, 5000, 65536])
def test_a_code_that_means_something_else_is_refused(code: int) -> None:
    with pytest.raises(InvalidClose, match="1000, 1008"):
        close_of(code)


@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62, "🙂" * 31, "\ud800"])
def test_a_reason_that_a_close_frame_can_not_carry_is_refused(reason: str) -> None:
    with pytest.raises(InvalidClose, match="123 bytes"):
        close_of(4001, reason)


@pytest.mark.parametrize("id_", ["", "x" * 65, "a b", "a/b", "a\n", "é", "../../etc", "*", "\x00"])
async def test_nobody_is_asked_about_what_can_be_no_connection(id_: str) -> None:
    class Unasked(MemoryEngine):
        async def order(self, order: Order) -> Any:
            raise AssertionError(order)

    assert not is_connection_id(id_)
    async with running_hub(Unasked) as hub:
        assert await settled(hub, Order(GO, client=id_)) == 0


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_who_is_parted_with_is_told_to_have_been_removed_at_once_whatever_the_grace(
    grace: float, autojump_clock: trio.testing.MockClock
) -> None:
    transport = MemoryTransport(JSON)

    def left() -> list[tuple[str, Reason]]:
        return [gone for told in transport.received if isinstance(told, Presence) for gone in told.left]

    async with (
        running_hub(presence_grace=grace) as hub,
        open_connection(hub, transport, ["g"], presence=True, listed=False),
    ):
        async with (
            client(hub, "g", "h", form=JSON, user="ann") as (ann, _),
            client(hub, "g", user="bob") as (bob, _),
            client(hub, "g", user="eve") as (eve, _),
            client(hub, "g", user="zoe") as (zoe, _),
        ):
            orders = [
                (ann, Order(FORCED, client=ann.id, group="g")),  # it stays connected, and is told
                (bob, Order(FORCED, client=bob.id, group="g")),  # it has no room for that, and is closed
                (eve, Order(FORCED, client=eve.id)),
                (zoe, Order(FORCED, user="zoe")),
            ]
            for gone, (member, order) in enumerate(orders):
                await trio.sleep(1)
                assert len(left()) == gone
                assert (await hub.order(order)).count == 1
                listed = (await hub.members("g", None, 100)).members
                assert {each.client for each in listed} == {each.id for each, _ in orders[gone + 1 :]}
                await trio.sleep(0.1)  # news are gathered for half of that
                assert left()[gone:] == [(member.id, Reason.REMOVED)]
        await trio.sleep(100)
        assert len(left()) == 4  # one leave for each, whatever became of its connection then


async def test_the_library_parts_with_clients() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)
    connections: list[Connection] = []

    @app.websocket("/ws/<user>/<form>")
    async def ws(user: str, form: Any) -> None:
        async with push.connect("g", "h", user=user, format=form) as connection:
            connections.append(connection)
            async for _ in connection:
                pass

    async with simulate(app) as world:
        ann, bob, eve, zoe = [
            await world.connect(path) for path in ("/ws/ann/raw", "/ws/bob/raw", "/ws/bob/json", "/ws/zoe/raw")
        ]
        await trio.testing.wait_all_tasks_blocked()
        assert await push.disconnect(client=connections[0]) == 1
        assert await ann.wait_closed() == Closed(3503, "disconnected by the server")
        assert await push.group("g").remove(connections[2].id, code=4003, reason="not here")
        assert not await push.group("g").remove(connections[2])
        assert '"code":4003,"reason":"not here"' in [str(await eve.receive()) for _ in range(3)][2]
        assert await push.disconnect(user="bob", code=1008, reason="no") == 2
        assert await bob.wait_closed() == await eve.wait_closed() == Closed(1008, "no")
        assert await push.disconnect(client="gone") == 0
        for wrong in ({}, {"client": "x", "user": "y"}):
            with pytest.raises(ValueError, match="either"):
                await push.disconnect(**wrong)
        for wrong, error in (({"user": "a\nb"}, InvalidIdentity), ({"user": "zoe", "code": 1006}, InvalidClose)):
            with pytest.raises(error):
                await push.disconnect(**wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidGroupName):
            push.group("a*b")
        assert not connections[3].ended
        await zoe.close()
