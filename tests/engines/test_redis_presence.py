"""Members of several processes on one server, and what breaks between: each leave is told once, whoever dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from tests.redis_engines import PATIENCE, SHORT, engine_at, eventually
from tests.redis_proxy import proxied
from tests.redis_servers import Server
from triocast.core.presence import Change, Departed, Entered, Member, Reason
from triocast.engines import Nobody
from triocast.engines.redis import sweep
from triocast.engines.redis.engine import RedisEngine
from triocast.engines.redis.sweep import GAP, SILENT, Silence
from triocast.inbox import Inbox

pytestmark = pytest.mark.once


class Told(Nobody):
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.left: list[tuple[str, Reason]] = []

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        self.joined += [change.member.client for change in changes if isinstance(change, Entered)]
        self.left += [(change.member.client, change.reason) for change in changes if isinstance(change, Departed)]


@asynccontextmanager
async def living(*engines: RedisEngine) -> AsyncIterator[list[Told]]:
    hosts = [Told() for _ in engines]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for engine, host in zip(engines, hosts, strict=True):
                await nursery.start(engine.run, host)
            yield hosts
            nursery.cancel_scope.cancel()


async def count(engine: RedisEngine) -> int:
    return (await engine.members("g", None, 1)).count


async def counts(engine: RedisEngine, wanted: int) -> None:
    while await count(engine) != wanted:
        await trio.sleep(0.005)


def test_a_process_is_dead_that_has_shown_nothing_new_for_as_long_as_we_looked() -> None:
    silence = Silence()
    for second in range(int(SILENT)):
        assert silence.dead({"quiet": "1.1 0", "alive": f"1.1 {second}"}, 100.0 + second) == {}
    assert silence.dead({"quiet": "1.1 0", "alive": "1.1 99"}, 100.0 + SILENT) == {"quiet": "1.1 0"}


def test_after_we_were_away_others_have_all_the_time_anew() -> None:
    silence = Silence()
    silence.dead({"p": "1.1 0"}, 100.0)
    assert silence.dead({"p": "1.1 0"}, 100.0 + 10 * SILENT) == {}
    assert silence.dead({"p": "1.1 0"}, 100.0 + 10 * SILENT + GAP - 1) == {}


def test_one_that_somebody_has_begun_to_strike_off_is_dead_at_once() -> None:
    assert Silence().dead({"p": "!"}, 100.0) == {"p": "!"}


async def test_of_a_process_that_died_each_leave_is_told_once_however_many_look(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "EVERY", 0.05)
    monkeypatch.setattr(sweep, "SILENT", 1.0)
    async with proxied(valkey.port) as proxy:
        victim = engine_at(proxy.port)
        others = [engine_at(valkey.port) for _ in range(3)]
        inbox = Inbox(10)
        async with living(victim, *others) as hosts, others[0].subscribe("g", inbox):
            inbox.notices.arouse = lambda: None
            for number in range(500):
                victim.enter("g", Member(f"c{number}"))
            others[1].enter("g", Member("alive"))
            await counts(others[0], 501)
            inbox.notices.take("g")
            proxy.refusing = True  # from here on nothing of it arrives, as if it had been killed
            proxy.cut()
            await counts(others[0], 1)
            await eventually(lambda: sum(len(host.left) for host in hosts) >= 500)
            left = [each for host in hosts for each in host.left]
            assert sorted(left) == sorted((f"c{number}", Reason.LOST) for number in range(500))
            told: dict[str, Reason] = {}

            def heard() -> bool:
                for event in inbox.notices.take("g"):
                    assert not told.keys() & dict(event.left).keys()
                    told.update(event.left)
                return len(told) >= 500

            await eventually(heard)
            assert set(told.values()) == {Reason.LOST}
            # It was alive, and comes back: its members are there again, and its application is told so.
            proxy.mend()
            await counts(others[0], 501)
            await eventually(lambda: len(hosts[0].joined) >= 1000)
            assert len(hosts[0].joined) == 1000
            assert "alive" not in dict(left)


async def test_a_connection_cut_in_a_burst_of_joins_loses_none_and_tells_each_once(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with living(engine) as [host]:
            engine.enter("g", Member("first"))
            await eventually(lambda: host.joined)
            for number in range(1000):
                engine.enter("g", Member(f"c{number}"))
                if number % 300 == 100:
                    await trio.lowlevel.checkpoint()
                    proxy.cut()
            for number in range(0, 1000, 2):
                engine.depart("g", f"c{number}", Reason.LEFT)
            [book] = engine._rollcall._books.values()
            await eventually(lambda: book.idle)
            assert await count(engine) == 501
            assert len(host.joined) == len(set(host.joined))
            assert len(host.joined) - len(host.left) == 501
            assert {client for client, _ in host.left} <= set(host.joined)


@pytest.mark.parametrize("what", ["enter", "depart"])
async def test_a_lost_answer_is_asked_for_again_and_told_once(valkey: Server, what: str) -> None:
    async with proxied(valkey.port) as proxy:
        engine, other = engine_at(proxy.port, SHORT), engine_at(valkey.port)
        async with living(engine, other) as hosts:
            engine.enter("g", Member("stays"))
            engine.enter("g", Member("leaves"))
            await eventually(lambda: len(hosts[0].joined) == 2)
            proxy.hold_answers()
            if what == "enter":
                engine.enter("g", Member("comes"))
            else:
                engine.depart("g", "leaves", Reason.REMOVED)
            await counts(other, 3 if what == "enter" else 1)
            assert (len(hosts[0].joined), hosts[0].left) == (2, [])
            proxy.cut()
            proxy.mend()
            await eventually(lambda: len(hosts[0].joined) + len(hosts[0].left) >= 3)
            engine.enter("g", Member("last"))
            await eventually(lambda: "last" in hosts[0].joined)
            assert hosts[0].joined == ["stays", "leaves", *["comes"] * (what == "enter"), "last"]
            assert hosts[0].left == [("leaves", Reason.REMOVED)] * (what == "depart")
            assert (hosts[1].joined, hosts[1].left) == ([], [])


async def test_an_emptied_server_has_all_members_again_and_watchers_know_who_left(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "EVERY", 0.05)
    engine, other = engine_at(valkey.port), engine_at(valkey.port)
    async with living(engine, other) as hosts:
        for number in range(5):
            engine.enter("g", Member(f"c{number}"))
        other.enter("g", Member("o"))
        await counts(engine, 6)
        await eventually(lambda: len(hosts[0].joined) == 5 and len(hosts[1].joined) == 1)
        valkey.admin.flushall()
        engine.depart("g", "c0", Reason.REMOVED)
        await counts(engine, 5)
        assert hosts[0].left == [("c0", Reason.REMOVED)]
        assert (len(hosts[0].joined), hosts[1].joined, hosts[1].left) == (5, ["o"], [])


async def test_whoever_watches_is_told_to_ask_again_when_a_feed_was_away(valkey: Server) -> None:
    engine, inbox = engine_at(valkey.port), Inbox(10)
    async with living(engine), engine.subscribe("g", inbox):
        inbox.notices.arouse = lambda: None
        valkey.admin.execute_command("CLIENT KILL TYPE pubsub")
        await eventually(lambda: inbox.notices.waiting)
        assert [event.reset for event in inbox.notices.take("g")] == [True]


async def test_an_outage_piles_nothing_up(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with living(engine) as [host]:
            engine.enter("g", Member("stays"))
            await eventually(lambda: host.joined)
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not engine.connected)
            for number in range(10_000):
                engine.enter("g", Member(f"c{number}"))
                engine.depart("g", f"c{number}", Reason.LEFT)
            [book] = engine._rollcall._books.values()
            assert repr(book) == "<Book 1 members, 0 orders>"
            proxy.mend()
            await counts_when_back(engine, 1)
            assert (host.joined, host.left) == (["stays"], [])


async def counts_when_back(engine: RedisEngine, wanted: int) -> None:
    await eventually(lambda: engine.connected)
    await counts(engine, wanted)
