"""What breaks between a process and its Redis: nothing that was acknowledged is lost, and what is not known is said."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Callable

import pytest
import trio

from tests.redis_engines import KEYS, PATIENT, SHORT, engine_at, eventually, publish_surely, running, seen, serving
from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import Server
from triocast import Draft, EngineUnavailable, GapReason, Kind, Message, Settings, UnknownOutcome
from triocast.connection import open_connection
from triocast.engines.redis import connection, feed, wire
from triocast.engines.redis.engine import RedisEngine
from triocast.errors import EngineError
from triocast.hub import Hub
from triocast.inbox import Inbox, Recall, Renewal
from triocast.testing import MemoryTransport

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found out must not be by the look at every group that comes in a while anyway."""
    monkeypatch.setattr(feed, "CHECK_EVERY", 1e6)


async def test_an_outage_is_a_pause_and_everything_published_elsewhere_meanwhile_is_read_on(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        here, elsewhere = engine_at(proxy.port), engine_at(valkey.port)
        transport = MemoryTransport()
        async with running(elsewhere), serving(here) as hub, open_connection(hub, transport, ["g"]):
            await elsewhere.publish("g", Draft.of(1))
            await eventually(lambda: seen(transport) == [1])
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not here.connected)
            assert "can't be reached" in here.why
            with pytest.raises(EngineUnavailable):
                await hub.publish("g", Draft.of("nobody takes it"))
            for count in range(2, 301):
                await elsewhere.publish("g", Draft.of(count))
            assert seen(transport) == [1]
            proxy.mend()
            await eventually(lambda: len(transport.received) >= 300)
            assert seen(transport) == list(range(1, 301))
            await eventually(lambda: here.connected)
            assert (await hub.publish("g", Draft.of("again"))).offset == 301


async def test_what_became_too_heavy_to_be_kept_for_a_process_that_was_away_is_a_gap(valkey: Server) -> None:
    settings = Settings(history_size=0)
    transport = MemoryTransport()
    async with proxied(valkey.port) as proxy:
        engine, other = engine_at(proxy.port, settings), engine_at(valkey.port, settings)
        async with serving(engine) as hub, running(other), open_connection(hub, transport, ["g"]):
            await publish_surely(other, "g", Draft.of("x"))
            await eventually(lambda: seen(transport) == [1])
            proxy.refusing = True
            proxy.cut()
            for _ in range(28):
                await other.publish("g", Draft(Kind.BINARY, bytes(1_000_000)))
            first = 29 + 1 - valkey.admin.xlen(KEYS.of("g").stream)
            assert first > 2
            proxy.mend()
            await eventually(lambda: seen(transport)[-1] == 29)
            assert seen(transport)[:3] == [1, (GapReason.LOST, 2, first - 1), first]


async def test_connections_killed_while_many_publish_lose_nothing_acknowledged_and_double_nothing(
    valkey: Server,
) -> None:
    engine = engine_at(valkey.port)
    transport = MemoryTransport()
    acknowledged: list[str] = []
    done = 0
    async with serving(engine) as hub, open_connection(hub, transport, ["g"]):

        async def publisher(number: int) -> None:
            nonlocal done
            for count in range(100):
                text = f"{number}:{count}"
                while True:
                    try:
                        await engine.publish("g", Draft(Draft.of("").kind, text.encode(), idempotency_key=text))
                    except EngineError as error:
                        assert isinstance(error, EngineUnavailable | UnknownOutcome)
                        await trio.sleep(0.01)
                    else:
                        break
                acknowledged.append(text)
            done += 1

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(publisher, number)
            for part in (100, 300, 500, 700):
                await eventually(lambda part=part: len(acknowledged) >= part)  # type: ignore[misc]
                valkey.admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
                valkey.admin.execute_command("CLIENT KILL TYPE pubsub")
        assert done == 8
        await eventually(lambda: len(transport.received) >= 800)
        assert seen(transport) == list(range(1, 801))
        texts = [entry.data.decode() for entry in transport.received if isinstance(entry, Message)]
        assert sorted(texts) == sorted(acknowledged)
        assert len(set(texts)) == 800


async def test_a_lost_answer_is_said_to_be_an_unknown_outcome_and_its_key_is_not_doubled(valkey: Server) -> None:
    draft = Draft(Draft.of("").kind, b"once", idempotency_key="k")
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with running(engine):
            await engine.publish("g", Draft.of("first"))
            proxy.hold_answers()
            outcomes: list[BaseException] = []

            async def publish() -> None:
                try:
                    await engine.publish("g", draft)
                except EngineError as error:
                    outcomes.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                await eventually(lambda: valkey.admin.xlen(KEYS.of("g").stream) == 2)
                proxy.cut()
            assert [type(each) for each in outcomes] == [UnknownOutcome]
            proxy.mend()
            assert await publish_surely(engine, "g", draft) == 2
            assert valkey.admin.xlen(KEYS.of("g").stream) == 2


async def test_an_answer_that_does_not_come_in_time_is_an_unknown_outcome_and_ends_the_connection(
    valkey: Server,
) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port, SHORT)
        async with running(engine):
            before = proxy.accepted
            proxy.go_silent()
            with pytest.raises(UnknownOutcome, match="no answer for 1 s"):
                await engine.publish("g", Draft.of("x"))
            with pytest.raises(EngineUnavailable):
                await engine.publish("g", Draft.of("y"))
            proxy.mend()
            await eventually(lambda: engine.connected)
            assert proxy.accepted > before


async def test_a_silent_server_is_noticed_though_nobody_asks_it_anything(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port, SHORT)
        async with running(engine), engine.subscribe("g", Inbox(10)):
            proxy.go_silent()
            await eventually(lambda: not engine.router.wires[0].up and engine.unsubscribed)
            assert "no answer for 1 s" in engine.why
            proxy.mend()
            await eventually(lambda: engine.connected)


async def test_who_gives_up_waiting_for_an_answer_takes_it_from_nobody_else(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with running(engine):
            offsets: list[int] = []

            async def publish(group: str) -> None:
                offsets.append((await engine.publish(group, Draft.of("x"))).position.offset)

            await engine.publish("first", Draft.of("the server has the script from here on"))
            proxy.hold_answers()
            async with trio.open_nursery() as nursery:
                for count, group in enumerate("ab", 1):
                    async with trio.open_nursery() as hasty:
                        hasty.start_soon(publish, "impatient")
                        await eventually(lambda count=count: valkey.admin.xlen(KEYS.of("impatient").stream) == count)  # type: ignore[misc]
                        hasty.cancel_scope.cancel()
                    nursery.start_soon(publish, group)
                await eventually(lambda: valkey.admin.exists(KEYS.of("b").stream))
                proxy.mend()
            assert offsets == [1, 1]
            assert (await engine.position("impatient")).offset == 2


async def test_a_killed_server_that_finds_its_data_again_has_lost_nothing_it_acknowledged(
    make_valkey: Callable[..., Server],
) -> None:
    server = make_valkey("--appendonly", "yes", "--appendfsync", "always")
    engine = engine_at(server.port)
    transport = MemoryTransport()
    async with serving(engine) as hub, open_connection(hub, transport, ["g"]):
        for count in range(50):
            await engine.publish("g", Draft.of(count))
        await trio.to_thread.run_sync(server.kill)
        await eventually(lambda: not engine.connected)
        await trio.to_thread.run_sync(server.start)
        for count in range(50, 100):
            assert await publish_surely(engine, "g", Draft.of(count)) == count + 1
        await eventually(lambda: len(transport.received) >= 100)
        assert seen(transport) == list(range(1, 101))


async def test_an_emptied_server_begins_a_new_epoch_of_which_members_are_told(valkey: Server) -> None:
    engine = engine_at(valkey.port)
    transport = MemoryTransport()
    async with serving(engine) as hub, open_connection(hub, transport, ["g"]):
        before = await hub.publish("g", Draft.of(1))
        await eventually(lambda: seen(transport) == [1])
        valkey.admin.flushall()
        after = await hub.publish("g", Draft.of(2))
        assert (after.epoch != before.epoch, after.offset) == (True, 1)
        await eventually(lambda: len(transport.received) >= 3)
        assert seen(transport) == [1, (GapReason.EPOCH, 1, 0), 1]


async def test_a_server_emptied_and_silent_is_found_out_when_its_connections_come_back(valkey: Server) -> None:
    engine = engine_at(valkey.port)
    async with running(engine):
        inbox = Inbox(10)
        async with engine.subscribe("g", inbox) as start:
            await engine.publish("g", Draft.of(1))
            assert isinstance((await inbox.take())[0], Message)
            valkey.admin.flushall()
            valkey.admin.execute_command("CLIENT KILL TYPE pubsub")
            [renewal] = await inbox.take()
            assert isinstance(renewal, Renewal)
            assert (renewal.position.offset, renewal.position.epoch != start.epoch) == (0, True)


async def test_a_server_that_lost_its_last_writes_is_found_out_by_another_id_in_their_place(valkey: Server) -> None:
    engine, other = engine_at(valkey.port), engine_at(valkey.port)
    stream, meta = KEYS.of("g").stream, KEYS.of("g").meta
    async with running(engine, other):
        inboxes = [Inbox(10), Inbox(10)]
        async with engine.subscribe("g", inboxes[0]) as start, other.subscribe("g", inboxes[1]):
            await engine.publish("g", Draft.of("kept"))
            kept, entries = valkey.admin.hgetall(meta), valkey.admin.xrange(stream)
            await engine.publish("g", Draft.of("lost"))
            await eventually(lambda: [len(inbox) for inbox in inboxes] == [2, 2])
            # As a replica without the last write would have it, which then goes on as a primary.
            valkey.admin.delete(stream)
            valkey.admin.xadd(stream, entries[0][1], id=entries[0][0])
            valkey.admin.hset(meta, mapping=kept)
            valkey.admin.execute_command("CLIENT KILL TYPE pubsub")
            for inbox in inboxes:
                items = await inbox.take()
                while not isinstance(items[-1], Renewal):
                    items += await inbox.take()
                assert items[-1].position.offset == 1
                assert items[-1].position.epoch != start.epoch
            assert (await engine.publish("g", Draft.of("goes on"))).position.offset == 2


async def test_a_client_that_comes_during_an_outage_is_refused_in_time_and_served_after_it(valkey: Server) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port, SHORT)
        async with serving(engine) as hub:
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not engine.connected)
            with pytest.raises(EngineError) as refused:
                await open_and_leave(hub)
            assert isinstance(refused.value.__cause__, EngineUnavailable)
            proxy.mend()
            await eventually(lambda: engine.connected)
            await open_and_leave(hub)
            assert hub.groups == 0


async def open_and_leave(hub: Hub) -> None:
    async with open_connection(hub, MemoryTransport()) as connection:
        await connection.join("g")


@pytest.mark.parametrize("fault", ["refusing", "silent"])
async def test_leaving_while_the_server_is_gone_does_not_wait_for_it(valkey: Server, fault: str) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with serving(engine) as hub:
            async with open_connection(hub, MemoryTransport(), ["g"]):
                break_off(proxy, fault)
            assert hub.groups == 0
            left = trio.current_time()
        assert trio.current_time() - left < PATIENT.engine_timeout  # the engine's end waits for nothing either


def break_off(proxy: Proxy, fault: str) -> None:
    if fault == "silent":
        proxy.go_silent()
    else:
        proxy.refusing = True
        proxy.cut()


async def test_a_start_without_a_server_waits_no_longer_than_an_answer_and_goes_on_when_there_is_one(
    valkey: Server,
) -> None:
    async with proxied(valkey.port) as proxy:
        proxy.refusing = True
        engine = engine_at(proxy.port, SHORT)
        async with running(engine):
            assert not engine.connected
            with pytest.raises(EngineUnavailable):
                await engine.publish("g", Draft.of("x"))
            proxy.mend()
            assert await publish_surely(engine, "g", Draft.of("x")) == 1


BURST = """
local meta, stream, channel, count = KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[1])
local epoch = redis.call('HGET', meta, 'e')
for offset = 1, count do
  local message = epoch .. ' ' .. offset .. ' id' .. offset .. ' t 0 -1 ' .. ARGV[2]
  redis.call('XADD', stream, offset .. '-0', 'm', message, 'w', '0')
  redis.call('SPUBLISH', channel, message)
end
redis.call('HSET', meta, 'o', count, 'i', 'id' .. count)
"""


async def test_a_group_nobody_takes_from_holds_no_more_than_its_inbox_whatever_arrives(valkey: Server) -> None:
    engine, count, names = engine_at(valkey.port), 50_000, KEYS.of("g")
    async with running(engine):
        inbox = Inbox(64)
        async with engine.subscribe("g", inbox):
            tracemalloc.start()
            try:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                burst = (BURST, 3, names.meta, names.stream, names.channel, count, b"x" * 300)
                await trio.to_thread.run_sync(valkey.admin.eval, *burst)
                follow = engine._delivery._follows["g"]
                await eventually(lambda: follow.head.offset == count)
                peak = tracemalloc.get_traced_memory()[1] - before
            finally:
                tracemalloc.stop()
            assert peak < 2_000_000  # of 15 MB that came
            items = await inbox.take()
            assert [item.offset for item in items[:64] if isinstance(item, Message)] == list(range(1, 65))
            assert items[64:] == [Recall(count)]
            page = await engine.fetch("g", 64, count)
            assert page.messages[0].offset == 65
            assert (await engine.fetch("g", count - 1, 10)).messages[0].offset == count


async def test_a_process_that_can_t_keep_up_is_cut_off_by_the_server_and_catches_up(
    make_valkey: Callable[..., Server],
) -> None:
    server = make_valkey("--client-output-buffer-limit", "pubsub 1mb 0 0")
    engine, count, names = engine_at(server.port), 50_000, KEYS.of("g")
    async with running(engine):
        inbox = Inbox(64)
        async with engine.subscribe("g", inbox):
            # Not in a thread: nothing else runs here while 35 MB come, more than sockets hold.
            server.admin.eval(BURST, 3, names.meta, names.stream, names.channel, count, b"x" * 700)
            follow = engine._delivery._follows["g"]
            await eventually(lambda: follow.head.offset == count and follow.live)
            assert server.admin.info("stats")["client_output_buffer_limit_disconnections"] == 1
            assert (await inbox.take())[-1] == Recall(count)


async def test_a_server_that_went_back_in_time_without_a_word_is_found_out_in_a_while(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_EVERY", 0.5)
    engine = engine_at(valkey.port)
    async with running(engine):
        inbox = Inbox(10)
        async with engine.subscribe("g", inbox) as start:
            await engine.publish("g", Draft.of("x"))
            assert isinstance((await inbox.take())[0], Message)
            valkey.admin.flushall()
            [item] = await inbox.take()
            assert isinstance(item, Renewal)
            assert (item.position.offset, item.position.epoch != start.epoch) == (0, True)


async def test_a_publish_waits_for_a_place_no_longer_than_for_an_answer_and_was_not_published(valkey: Server) -> None:
    engine = engine_at(valkey.port, SHORT)
    async with running(engine):
        inbox = Inbox(1)
        async with engine.subscribe("g", inbox):
            await engine.publish("g", Draft.of("takes the place"))
            await eventually(lambda: len(inbox) == 1)
            with pytest.raises(EngineUnavailable, match="inbox"):
                await engine.publish("g", Draft.of("finds none"))
            assert (await engine.position("g")).offset == 1
            [item] = await inbox.take()
            assert isinstance(item, Message)
            assert (await engine.publish("g", Draft.of("finds one"))).position.offset == 2


async def test_many_publish_at_once_in_few_writes(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port)
        async with running(engine):
            await engine.publish("first", Draft.of("the server has the script from here on"))
            writes: list[int] = []
            send = connection.send_what_goes

            def counted(plain: socket.socket, data: bytes) -> bytes:
                writes.append(len(data))
                return send(plain, data)

            monkeypatch.setattr(connection, "send_what_goes", counted)
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(engine.publish, f"g{number}", Draft.of("x"))
            assert sum(writes) > 100 * 100
            assert len(writes) <= 5  # the first one goes alone; now and then something else is asked


async def test_for_a_server_that_takes_nothing_a_bounded_number_of_bytes_waits(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_UNSENT", 4 * 1024 * 1024)
    outcomes: list[str] = []

    async def publish(engine: RedisEngine) -> None:
        try:
            await engine.publish("g", Draft.of("x" * 1024 * 1024))
        except (EngineUnavailable, UnknownOutcome) as error:
            outcomes.append(str(error))

    async with proxied(valkey.port) as proxy:
        engine = engine_at(proxy.port, SHORT)
        async with running(engine):
            proxy.go_silent()
            async with trio.open_nursery() as nursery:
                for _ in range(32):
                    nursery.start_soon(publish, engine)
    behind = [each for each in outcomes if "bytes behind" in each]
    assert len(outcomes) == 32
    assert 32 - 4 - 8 <= len(behind) < 32  # four wait; the kernel and the proxy hold a few more
