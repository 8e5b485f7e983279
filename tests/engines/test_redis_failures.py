"""What is left of groups when their server crashes, or a replica takes its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.engines.redis_scene import KEYS, scene_of
from tests.redis_servers import Server, serving_redis, until
from triocast import Draft, Position
from triocast.core.recovery import Join
from triocast.engines import Audience
from triocast.engines.redis.store import Head, Store

pytestmark = pytest.mark.once

MANY = 1100  # messages, so that the stream is trimmed too


async def use(store: Store) -> None:
    """Do everything that writes."""
    for number in range(MANY):
        await store.publish("g", Draft.of(number, key=f"k{number % 7}"))
    for number in range(5):
        await store.publish("once", replace(Draft.of(number), idempotency_key=str(number)))
    await store.report(KEYS.of("g").partition, "p", {"g": Audience(3, 1)})
    await store.check("forked", Head((await store.attach("forked")).position, b""))
    await store.check("forked", Head(Position((await store.position("forked")).epoch, 7), b"lost"))


def everything(server: Server) -> dict[bytes, object]:
    """Return what each key holds, and whether it expires."""
    admin = server.admin
    ways = {b"hash": admin.hgetall, b"zset": lambda key: admin.zrange(key, 0, -1, withscores=True)}
    ways |= {b"stream": admin.xrange, b"string": admin.get}
    return {key: (ways[admin.type(key)](key), admin.pttl(key) > 0) for key in admin.keys("*")}


async def test_all_that_was_acknowledged_survives_a_crash_of_a_server_that_appends_to_a_file(
    valkey_aof: Server,
) -> None:
    async with scene_of(valkey_aof) as scene:
        store = scene.store(join=Join.LAST)
        await use(store)
        first = await store.publish("g", replace(Draft.of("last"), idempotency_key="k"))
        before, head = everything(valkey_aof), await store.attach("g")
        valkey_aof.kill()
    valkey_aof.start()
    assert everything(valkey_aof) == before
    async with scene_of(valkey_aof) as scene:
        store = scene.store(join=Join.LAST)
        assert await store.publish("g", replace(Draft.of("last"), idempotency_key="k")) == replace(first, repeated=True)
        assert (await store.check("g", head)).same
        assert (await store.publish("g", Draft.of("next"))).position == Position(
            head.position.epoch, head.position.offset + 1
        )


@pytest.fixture(params=["valkey-server", "redis-server"])
def pair(request: pytest.FixtureRequest, make_valkey: Callable[..., Server]) -> tuple[Server, Server]:
    """A primary and its replica."""
    if request.param == "redis-server":
        primary: Server = request.getfixturevalue("debian_redis")
        return primary, request.getfixturevalue("redis_replica")
    primary = make_valkey()
    return primary, make_valkey("--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0")


@pytest.fixture
def redis_replica(debian_redis: Server) -> Iterator[Server]:
    debian_redis.admin.config_set("repl-diskless-sync-delay", 0)
    with serving_redis(debian_redis.program, "--replicaof", f"127.0.0.1 {debian_redis.port}") as replica:
        yield replica


def in_step(primary: Server, replica: Server) -> bool:
    told = replica.admin.info("replication")
    return bool(
        told["role"] == "slave"
        and told["master_link_status"] == "up"
        and told["slave_repl_offset"] == primary.admin.info("replication")["master_repl_offset"]
    )


async def test_a_replica_has_all_that_its_primary_has(pair: tuple[Server, Server]) -> None:
    primary, replica = pair
    primary.admin.config_set("repl-diskless-sync-delay", 0)
    until(lambda: in_step(primary, replica), "the replica is in step")
    async with scene_of(primary) as scene:
        await use(scene.store(join=Join.LAST))
    until(lambda: in_step(primary, replica), "the replica is in step")
    assert everything(replica) == everything(primary)


async def test_a_replica_that_is_behind_when_it_takes_over_begins_a_new_epoch_and_keeps_what_it_has(
    pair: tuple[Server, Server],
) -> None:
    primary, replica = pair
    primary.admin.config_set("repl-diskless-sync-delay", 0)
    async with scene_of(primary) as scene:
        store = scene.store()
        for number in range(10):
            await store.publish("g", Draft.of(number))
            await store.publish("quiet", Draft.of(number))
        until(lambda: in_step(primary, replica), "the replica is in step")
        replica.admin.execute_command("REPLICAOF NO ONE")
        for number in range(10, 13):
            await store.publish("g", Draft.of(number))
        lost, quiet = await store.attach("g"), await store.attach("quiet")
    async with scene_of(replica) as scene:
        store = scene.store()
        for _ in range(3):  # so that the offsets alone would tell nothing
            await store.publish("g", Draft.of("other"))
        assert (await store.check("quiet", quiet)).same
        check = await store.check("g", lost)
        assert (check.same, check.head.position.offset) == (False, 13)
        page = await store.read("g", 0, 100)
        assert page.position == check.head.position != lost.position
        assert [message.data for message in page.messages] == [str(n).encode() for n in range(10)] + [b"other"] * 3
