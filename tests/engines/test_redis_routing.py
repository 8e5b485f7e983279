"""Which server is asked: slots of a Cluster that move, a node that dies, a primary that Sentinels replace."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from valkey import Valkey
from valkey.exceptions import ConnectionError as NoConnection
from valkey.exceptions import ResponseError

from tests.redis_engines import KEYS, PATIENT, SHORT, engine_at, eventually, publish_surely, running, seen, serving
from tests.redis_servers import Cluster, Server, free_port, serving_cluster, until, valkey_program
from triocast import Draft, EngineUnavailable, Message, Settings
from triocast.connection import open_connection
from triocast.core.steering import Order
from triocast.engines.redis import feed
from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.cluster import ClusterRouter, parse_redirect, parse_slots, slot_of
from triocast.engines.redis.engine import RedisEngine
from triocast.engines.redis.keys import ORDERS
from triocast.errors import FORCED
from triocast.inbox import Inbox, Recall
from triocast.settings.redis_address import Place
from triocast.testing import MemoryTransport

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found out must not be by the look at every group that comes in a while anyway."""
    monkeypatch.setattr(feed, "CHECK_EVERY", 1e6)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A Cluster of this test alone, whose slots may move and whose nodes may die."""
    with serving_cluster(valkey_program(), "--appendonly", "yes", "--appendfsync", "always") as cluster:
        yield cluster


def engine_on(cluster: Cluster, settings: Settings = PATIENT) -> RedisEngine:
    return engine_at(f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}", settings)


class Move:
    """A slot on its way from the node that has it to the next one."""

    def __init__(self, cluster: Cluster, group: str) -> None:
        self.names = KEYS.of(group)
        self.slot = slot_of(self.names.partition)
        self.cluster = cluster
        self.source = cluster.node_of(self.names.meta.decode())
        self.target = cluster.nodes[(cluster.nodes.index(self.source) + 1) % 3]

    def begin(self) -> None:
        source, target = (each.admin.execute_command("CLUSTER MYID").decode() for each in (self.source, self.target))
        self.target.admin.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", source)
        self.source.admin.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", target)

    def keys_at(self, node: Server) -> int:
        """How many keys of the slot a node has; of others it may have some at any time: who hears orders, for one."""
        return int(node.admin.execute_command("CLUSTER COUNTKEYSINSLOT", self.slot))

    def finish(self) -> None:
        keys = self.source.admin.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1000)
        if keys:
            self.source.admin.execute_command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)
        target = self.target.admin.execute_command("CLUSTER MYID").decode()
        for node in (self.target, self.source, *self.cluster.nodes):
            node.admin.execute_command("CLUSTER SETSLOT", self.slot, "NODE", target)


async def test_a_group_whose_slot_moves_goes_on_where_it_is_then(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster)
    transport = MemoryTransport()
    async with serving(engine) as hub, open_connection(hub, transport, ["g"]):
        await publish_surely(engine, "g", Draft.of(1))
        await eventually(lambda: seen(transport) == [1])
        move = Move(own_cluster, "g")
        move.begin()
        move.finish()
        for count in range(2, 50):
            assert await publish_surely(engine, "g", Draft.of(count)) == count
        await eventually(lambda: len(transport.received) >= 49)
        assert seen(transport) == list(range(1, 50))
        await eventually(lambda: engine.connected)
        wire = engine.router.wire_of(move.names.partition)
        assert wire is not None
        assert wire.place == Place("127.0.0.1", move.target.port)


async def test_a_slot_that_moves_while_nobody_publishes_is_followed(own_cluster: Cluster) -> None:
    engine, other = engine_on(own_cluster), engine_on(own_cluster)
    async with running(engine, other):
        inbox = Inbox(10)
        async with engine.subscribe("g", inbox):
            move = Move(own_cluster, "g")
            move.begin()
            move.finish()
            await eventually(
                lambda: any(
                    wire.place == Place("127.0.0.1", move.target.port) and move.names.channel in each._wanted
                    for wire, each in engine._delivery._feeds.items()
                )
            )
            await eventually(lambda: not engine.unsubscribed)
            await publish_surely(other, "g", Draft.of(1))
            [item] = await inbox.take()
            assert (item.offset if isinstance(item, Message | Recall) else None) == 1


async def test_orders_reach_everybody_when_their_slot_has_moved(own_cluster: Cluster) -> None:
    one, two = engine_on(own_cluster), engine_on(own_cluster)
    async with serving(one) as here, serving(two) as there, open_connection(there, MemoryTransport()) as far:
        await eventually(lambda: one._orders.live and two._orders.live)
        group = next(f"g{number}" for number in range(10_000) if KEYS.of(f"g{number}").partition == ORDERS)
        move = Move(own_cluster, group)
        move.begin()
        move.finish()
        feeds = (one._delivery._feeds, two._delivery._feeds)
        target = Place("127.0.0.1", move.target.port)
        await eventually(
            lambda: all(
                any(wire.place == target and KEYS.orders_channel in feed._wanted for wire, feed in each.items())
                for each in feeds
            )
        )
        await eventually(lambda: one._orders.live and two._orders.live)
        outcome = await here.order(Order(FORCED, client=far.id))
        assert (outcome.count, far.ended) == (1, True)


async def test_who_followed_a_group_before_hears_nothing_more_and_disturbs_nobody(valkey: Server) -> None:
    engine = engine_at(valkey.port, PATIENT)
    async with running(engine):
        inbox = Inbox(10)
        before = engine._delivery.follow("g", Inbox(10))
        await eventually(lambda: before.live)
        after = engine._delivery.follow("g", inbox)
        assert not before.live
        await eventually(lambda: after.live)
        engine._delivery.leave(before)
        assert after.live
        await publish_surely(engine, "g", Draft.of(1))
        [item] = await inbox.take()
        assert (item.offset if isinstance(item, Message | Recall) else None) == 1


async def test_a_key_of_a_slot_that_is_moving_is_made_where_it_goes(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster)
    async with running(engine):
        move = Move(own_cluster, "g")
        move.begin()
        partition = move.names.partition
        assert await engine.router.call(partition, b"SET", move.names.meta, b"x") == b"OK"
        assert (move.keys_at(move.source), move.keys_at(move.target)) == (0, 1)
        assert await engine.router.call(partition, b"GET", move.names.meta) == b"x"
        move.finish()
        assert await engine.router.call(partition, b"GET", move.names.meta) == b"x"


async def test_what_a_cluster_can_t_take_while_a_slot_moves_waits_until_it_can(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster)
    offsets: list[int] = []

    async def publish(group: str) -> None:
        offsets.append((await engine.publish(group, Draft.of("waits"))).position.offset)

    async with running(engine):
        await engine.publish("g", Draft.of("its keys are some of those that a publish may touch"))
        other = next(name for name in map(str, range(10_000)) if KEYS.of(name).partition == KEYS.of("g").partition)
        move = Move(own_cluster, "g")
        move.begin()
        before = refusals(own_cluster)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, "g")
            nursery.start_soon(publish, other)
            await eventually(lambda: refusals(own_cluster) >= before + 4)
            assert offsets == []
            move.finish()
        assert sorted(offsets) == [1, 2]


def refusals(cluster: Cluster) -> int:
    """How often the nodes have said TRYAGAIN."""
    stats = (node.admin.info("errorstats") for node in cluster.nodes)
    return sum(int(each.get("errorstat_TRYAGAIN", {"count": 0})["count"]) for each in stats)


async def test_what_a_cluster_can_t_take_for_long_was_not_done(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster, Settings(engine_timeout=0.5))
    async with running(engine):
        await engine.publish("g", Draft.of("x"))
        Move(own_cluster, "g").begin()
        with pytest.raises(EngineUnavailable, match="TRYAGAIN"):
            await engine.publish("g", Draft.of("y"))


async def test_a_dead_node_takes_its_own_groups_with_it_and_no_others_until_it_is_back(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster)
    async with running(engine):
        groups = [f"g{number}" for number in range(30)]
        for group in groups:
            await engine.publish(group, Draft.of("x"))
        dead = own_cluster.nodes[1]
        theirs = [group for group in groups if own_cluster.node_of(KEYS.of(group).meta.decode()) is dead]
        others = [group for group in groups if group not in theirs]
        assert theirs
        await trio.to_thread.run_sync(dead.kill)
        await eventually(lambda: not engine.connected)
        assert f":{dead.port} can't be reached" in engine.why
        assert [node.up for node in engine.nodes].count(False) == 1
        for group in theirs:
            with pytest.raises(EngineUnavailable):
                await engine.publish(group, Draft.of("y"))
        for group in others:
            assert (await engine.publish(group, Draft.of("y"))).position.offset == 2
        await trio.to_thread.run_sync(dead.start)
        for group in theirs:
            assert await publish_surely(engine, group, Draft.of("y")) == 2
        await eventually(lambda: engine.connected)


async def test_a_server_without_slots_that_was_pointed_at_and_is_gone_is_not_waited_for(own_cluster: Cluster) -> None:
    engine = engine_on(own_cluster, SHORT)
    async with running(engine):
        assert isinstance(engine.router, ClusterRouter)
        # As a redirect does, when a slot was to move there; the move was given up, and with it the server.
        engine.router._wire(Place("127.0.0.1", free_port()))
        assert not engine.connected
        await eventually(lambda: engine.connected)
        assert {node.name for node in engine.nodes} == {f"127.0.0.1:{node.port}" for node in own_cluster.nodes}


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
async def test_without_the_files_of_tls_there_is_no_connection_and_no_crash(scheme: str) -> None:
    engine = engine_at(f"{scheme}://127.0.0.1:{free_port()}?cafile=/nonexistent", SHORT)
    async with running(engine):
        assert "No such file" in engine.why


async def test_ten_thousand_groups_are_subscribed_to_in_few_writes(valkey_cluster: Cluster) -> None:
    engine = engine_on(valkey_cluster)
    count = 10_000
    ready = 0
    async with running(engine):

        async def follow(number: int) -> None:
            nonlocal ready
            async with engine.subscribe(f"group{number}", Inbox(4)):
                ready += 1
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(follow, number)
            await eventually(lambda: ready == count)
            told = sum(
                len(node.admin.execute_command("PUBSUB", "SHARDCHANNELS", "*:c:*"))  # of all partitions on it
                for node in valkey_cluster.nodes
            )
            assert told == count
            calls = sum(node.admin.info("commandstats")["cmdstat_ssubscribe"]["calls"] for node in valkey_cluster.nodes)
            assert calls < count / 10
            nursery.cancel_scope.cancel()
        await eventually(
            lambda: (
                not any(node.admin.execute_command("PUBSUB", "SHARDCHANNELS", "*:c:*") for node in valkey_cluster.nodes)
            )
        )


@contextmanager
def sentinel_for(primary: Server) -> Iterator[int]:
    """Run a Sentinel that calls the server `main`, and gives its port."""
    directory = Path(tempfile.mkdtemp(prefix="push-"))
    port = free_port()
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\ndir {directory}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([valkey_program(), str(config), "--sentinel"], stdout=log, stderr=log)
    admin = Valkey(port=port)
    try:
        until(lambda: answers(admin), "the Sentinel answers")
        yield port
    finally:
        admin.close()
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def fails_over(sentinel: Valkey) -> bool:
    """Begin a failover, once the Sentinel has heard of a replica what it wants to know."""
    try:
        sentinel.execute_command("SENTINEL FAILOVER main")
    except ResponseError:
        return False
    return True


def answers(admin: Valkey) -> bool:
    try:
        return bool(admin.ping())
    except NoConnection:
        return False


async def test_after_a_failover_groups_go_on_at_the_primary_that_sentinels_name(
    make_valkey: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    primary = make_valkey("--repl-diskless-sync-delay", "0")
    replica = make_valkey("--replicaof", "127.0.0.1", str(primary.port))
    until(lambda: replica.admin.info("replication")["master_link_status"] == "up", "the replica follows")
    with sentinel_for(primary) as port:
        sentinel = Valkey(port=port)
        until(lambda: sentinel.sentinel_master("main")["num-slaves"] == 1, "the Sentinel knows the replica")
        nobody = free_port()
        engine = engine_at(f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{port}/main", PATIENT)
        transport = MemoryTransport()
        async with serving(engine) as hub, open_connection(hub, transport, ["g"]):
            assert engine.router.wires[0].place == Place("127.0.0.1", primary.port)
            first = await hub.publish("g", Draft.of(1))
            await eventually(lambda: seen(transport) == [1])
            await eventually(lambda: fails_over(sentinel))
            await eventually(lambda: engine.router.wires[0].place == Place("127.0.0.1", replica.port))
            for count in range(2, 20):
                assert await publish_surely(engine, "g", Draft.of(count)) == count
            await eventually(lambda: len(transport.received) >= 19)
            assert seen(transport) == list(range(1, 20))
            assert (await hub.info("g")).epoch == first.epoch
            # How the new primary keeps what it is given is looked at too.
            await eventually(lambda: sum("appendonly is no" in each.getMessage() for each in caplog.records) == 2)
            other = engine_at(f"redis+sentinel://127.0.0.1:{port}/main", PATIENT)
            async with running(other):
                await eventually(lambda: engine._orders.live and other._orders.live)
                (near,) = hub.roster
                assert (await other.order(Order(FORCED, client=near.id))).count == 1
                assert near.ended
        sentinel.close()


async def test_sentinels_that_do_not_know_the_primary_are_named(make_valkey: Callable[..., Server]) -> None:
    with sentinel_for(make_valkey()) as port:
        engine = engine_at(f"redis+sentinel://127.0.0.1:{port}/other", SHORT)
        async with running(engine):
            assert f"127.0.0.1:{port} knows no primary 'other'" in engine.why
            with pytest.raises(EngineUnavailable, match="knows no primary"):
                await engine.publish("g", Draft.of("x"))


async def test_a_replica_is_not_published_to_and_the_error_says_what_to_do(make_valkey: Callable[..., Server]) -> None:
    primary = make_valkey("--repl-diskless-sync-delay", "0")
    replica = make_valkey("--replicaof", "127.0.0.1", str(primary.port))
    until(lambda: replica.admin.info("replication")["master_link_status"] == "up", "the replica follows")
    engine = engine_at(replica.port)
    async with running(engine):
        with pytest.raises(EngineUnavailable, match=r"READONLY.*name the primary"):
            await engine.publish("g", Draft.of("x"))


def test_a_map_without_names_means_the_server_that_was_asked() -> None:
    asked = Place("10.0.0.1", 7000)
    reply = [
        [0, 8191, [b"", 7000, b"id", []], [b"10.0.0.9", 7009, b"replica"]],
        [8192, 16383, [b"10.0.0.2", 7001, b"id2"]],
    ]
    homes = parse_slots(reply, asked)
    assert len(homes) == 128
    for partition, place in homes.items():
        assert place == (asked if slot_of(partition) < 8192 else Place("10.0.0.2", 7001))


@pytest.mark.parametrize(
    ("text", "place", "asking"),
    [
        ("MOVED 3999 127.0.0.1:6381", Place("127.0.0.1", 6381), False),
        ("ASK 3999 2001:db8::1:6381", Place("2001:db8::1", 6381), True),
        ("MOVED 3999 :6381", Place("asked", 6381), False),
    ],
)
def test_a_redirect_says_where(text: str, place: Place, asking: bool) -> None:
    redirect = parse_redirect(RedisRefused(text), Place("asked", 1))
    assert redirect is not None
    assert (redirect.place, redirect.asking) == (place, asking)
    assert parse_redirect(RedisRefused("TRYAGAIN Multiple keys"), Place("asked", 1)) is None


def test_slots_are_those_that_servers_count(valkey_cluster: Cluster) -> None:
    for partition in (0, 7, 64, 127):
        assert slot_of(partition) == valkey_cluster.nodes[0].admin.execute_command(
            "CLUSTER KEYSLOT", f"a:{{{partition}}}:x"
        )
