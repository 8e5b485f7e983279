from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
import trio

from tests.engines.redis_scene import KEYS, Scene, age, scene_of
from tests.redis_servers import Cluster, Server
from triocast import Draft, Kind, Position
from triocast.core.recovery import Join
from triocast.engines import Audience, Page, Published
from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.entries import Entry, unpack_told
from triocast.engines.redis.keys import PARTITIONS
from triocast.engines.redis.store import PAGE_BYTES, Check, Head, Store
from triocast.errors import IdempotencyConflict, TooManyKeys

pytestmark = pytest.mark.once

WHERE = {"valkey": "valkey", "cluster": "valkey_cluster", "redis": "debian_redis"}


@pytest.fixture(params=list(WHERE))
def server(request: pytest.FixtureRequest) -> Server | Cluster:
    return cast("Server | Cluster", request.getfixturevalue(WHERE[request.param]))


@pytest.fixture
async def scene(server: Server | Cluster) -> AsyncIterator[Scene]:
    async with scene_of(server) as made:
        yield made


def offsets(page: Page) -> list[int]:
    return [message.offset for message in page.messages]


async def fill(store: Store, group: str, count: int, size: int = 1) -> None:
    for number in range(count):
        await store.publish(group, Draft(Kind.BINARY, number.to_bytes(4, "big") + bytes(size)))


def at(published: Published) -> Position:
    return published.position


# Positions


async def test_the_first_publish_makes_a_group_and_each_gets_the_next_offset(scene: Scene) -> None:
    epochs = iter(["one", "two", "three", "four", "five"])
    store = scene.store(new_epoch=lambda: next(epochs))
    assert await store.position("g") == Position("", 0)
    told = [await store.publish("g", Draft.of("x")) for _ in range(3)]
    assert told == [Published(Position("one", offset), Audience(0, 0)) for offset in (1, 2, 3)]
    assert at(await store.publish("h", Draft.of("x"))) == Position("four", 1)
    assert await store.position("g") == Position("one", 3)


async def test_whoever_attaches_first_makes_the_group_and_the_next_finds_it(scene: Scene) -> None:
    epochs = iter(["one", "two", "three"])
    store = scene.store(new_epoch=lambda: next(epochs))
    head = Head(Position("one", 0), b"")
    assert [await store.attach("g"), await store.attach("g")] == [head, head]
    assert at(await store.publish("g", Draft.of("x"))) == Position("one", 1)


async def test_attaching_tells_the_id_of_the_newest_message(scene: Scene) -> None:
    store = scene.store()
    async with scene.listening("g") as heard:
        await fill(store, "g", 3)
        told = [unpack_told("g", await heard()) for _ in range(3)]
    newest = told[-1]
    assert isinstance(newest, Entry)
    assert await store.attach("g") == Head(newest.message.position, newest.id)
    assert len({entry.id for entry in told if isinstance(entry, Entry)}) == 3


async def test_a_hundred_publishers_get_consecutive_offsets_in_the_order_that_is_heard(scene: Scene) -> None:
    store = scene.store(history_size=1000)
    given: dict[int, bytes] = {}

    async def publish(number: int) -> None:
        for count in range(5):
            data = b"%d:%d" % (number, count)
            published = await store.publish("g", Draft(Kind.TEXT, data))
            assert published.position.offset not in given
            given[published.position.offset] = data

    async with scene.listening("g") as heard:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(publish, number)
        told = [unpack_told("g", await heard()) for _ in range(500)]
    messages = [entry.message for entry in told if isinstance(entry, Entry)]
    assert [message.offset for message in messages] == list(range(1, 501))
    assert {message.offset: message.data for message in messages} == given
    assert [(each.offset, each.data) for each in (await store.fetch("g", 0, 1000)).messages] == sorted(given.items())


HOSTILE = [b"", b"\x00\xff\r\n$5\r\n", b" ", b"-1 x", b"!e 1", b"%s%d\\n", bytes(range(256)), b"x" * 100_000]


@pytest.mark.parametrize("kind", Kind)
async def test_data_and_keys_come_back_byte_for_byte_wherever_they_are_read(scene: Scene, kind: Kind) -> None:
    store = scene.store(join=Join.LAST, history_size=1000)
    keys = [None, "", " ", "-", "+", "-1", "0 k", "ключ\x00\r\n", "k" * 255]
    drafts = [Draft(kind, data, key) for data in HOSTILE for key in keys]
    name = "!g:$[]()\"'`\\;~^|<>?,.#@%=+-_:c::m:"
    async with scene.listening(name) as heard:
        for draft in drafts:
            await store.publish(name, draft)
        told = [unpack_told(name, await heard()) for _ in drafts]
    read = await store.read(name, 0, 1000)
    values = await store.last_values(name, 0, 1000)
    for messages in ([each.message for each in told if isinstance(each, Entry)], read.messages):
        assert [(message.kind, message.data, message.key) for message in messages] == [
            (kind, draft.data, draft.key) for draft in drafts
        ]
    assert [(message.data, message.key) for message in values.messages] == [(HOSTILE[-1], key) for key in keys]


async def test_names_that_look_alike_are_groups_of_their_own(scene: Scene) -> None:
    store = scene.store()
    names = ["a", "a:", "A", ":a", "m:a", "s:a", "a:b", "a:b:c", "c", "p", "x"]
    for count, name in enumerate(names, 1):
        await fill(store, name, count)
    assert [(await store.position(name)).offset for name in names] == list(range(1, len(names) + 1))


async def test_a_server_that_has_forgotten_the_scripts_is_given_them_again(scene: Scene) -> None:
    store = scene.store()
    await fill(store, "g", 1)
    for node in scene.nodes:
        node.admin.script_flush()
    assert at(await store.publish("g", Draft.of("x"))).offset == 2
    assert offsets(await store.read("g", 0, 10)) == [1, 2]


async def test_a_full_server_refuses_to_publish_and_nothing_is_changed(make_valkey: Callable[..., Server]) -> None:
    server = make_valkey("--maxmemory-policy", "noeviction")
    async with scene_of(server) as scene:
        store = scene.store()
        await fill(store, "g", 2)
        async with scene.listening("g") as heard:
            server.admin.config_set("maxmemory", "1mb")
            for group in ("g", "new"):
                with pytest.raises(RedisRefused, match="maxmemory"):
                    await store.publish(group, Draft.of("x"))
            assert offsets(await store.read("g", 0, 10)) == [1, 2]
            assert await store.position("new") == Position("", 0)
            server.admin.config_set("maxmemory", 0)
            assert at(await store.publish("g", Draft.of("y"))).offset == 3
            told = unpack_told("g", await heard())
            assert isinstance(told, Entry)
            assert told.message.data == b"y"


async def test_whatever_is_kept_of_a_group_expires_with_its_position(scene: Scene) -> None:
    store = scene.store(position_ttl=1000.0, history_ttl=60.0, join=Join.LAST)
    await store.attach("attached")
    await store.publish("g", Draft.of("x", key="k"))
    await store.publish("g", Draft(Kind.TEXT, b"x", "k", "once"))
    await store.report(KEYS.of("g").partition, "p", {"g": Audience(1, 0)})
    keys = [(node, key) for node in scene.nodes for key in node.admin.keys("*")]
    left = {key: node.admin.pttl(key) for node, key in keys}
    names = KEYS.of("g")
    for key in (names.meta, names.stream, names.values, names.order, KEYS.of("attached").meta):
        assert 990_000 < left.pop(key) <= 1_001_000
    assert all(0 < ttl <= 300_000 for ttl in left.values())
    assert len(left) == 6  # the record and its index; who is there: processes, census, names, ages


async def test_publishing_attaching_and_checking_prolong_a_position_and_reading_does_not(scene: Scene) -> None:
    store = scene.store(position_ttl=1000.0, history_ttl=60.0, join=Join.LAST)
    await store.publish("g", Draft.of("x"))
    node, names = scene.node("g"), KEYS.of("g")
    kept = (names.meta, names.stream, names.values, names.order)
    head = await store.attach("g")
    reads = (store.position, lambda g: store.read(g, 0, 1), lambda g: store.last_values(g, 0, 1))
    prolong = (store.attach, lambda g: store.check(g, head), lambda g: store.publish(g, Draft.of("x")))
    for ask, prolongs in [(each, False) for each in reads] + [(each, True) for each in prolong]:
        for key in kept:
            node.admin.pexpire(key, 500_000)
        node.admin.hincrby(names.meta, "x", -1000)  # as if the last publish were a second ago
        await ask("g")
        assert [node.admin.pttl(key) > 500_000 for key in kept] == [prolongs] * 4, ask


async def test_what_begins_to_be_kept_later_expires_too(scene: Scene) -> None:
    await scene.store().publish("g", Draft.of("x"))
    await scene.store(join=Join.LAST).publish("g", Draft.of("x"))
    names = KEYS.of("g")
    assert all(scene.node("g").admin.pttl(key) > 0 for key in (names.stream, names.values, names.order))


async def test_a_second_publish_within_a_second_leaves_the_time_of_expiry_alone(scene: Scene) -> None:
    store = scene.store()
    await fill(store, "g", 1)
    scene.node("g").admin.pexpire(KEYS.of("g").meta, 500_000)
    await fill(store, "g", 1)
    assert scene.node("g").admin.pttl(KEYS.of("g").meta) <= 500_000


async def test_a_group_whose_position_has_expired_begins_afresh_without_what_it_had(scene: Scene) -> None:
    store = scene.store(join=Join.LAST)
    await store.publish("g", Draft.of("old", key="k"))
    old = await store.position("g")
    for begin in (lambda: store.publish("g", Draft.of("new", key="n")), lambda: store.attach("g")):
        scene.node("g").admin.delete(KEYS.of("g").meta)
        await begin()
        now = await store.position("g")
        assert now.epoch != old.epoch
        kept = [b"new"] * now.offset
        for page in (await store.fetch("g", 0, 10), await store.last_values("g", 0, 10)):
            assert [message.data for message in page.messages] == kept
        old = now


# History


async def test_history_is_read_on_and_back_within_its_size(scene: Scene) -> None:
    store = scene.store(history_size=10)
    await fill(store, "g", 15)
    position = await store.position("g")
    page = await store.read("g", 0, 4)
    assert (page.position, offsets(page)) == (position, [6, 7, 8, 9])
    assert {message.epoch for message in page.messages} == {position.epoch}
    assert offsets(await store.read("g", 13, 100)) == [14, 15]
    assert offsets(await store.read_back("g", None, 4)) == [15, 14, 13, 12]
    assert offsets(await store.read_back("g", 9, 100)) == [8, 7, 6]
    assert offsets(await store.read_back("g", 6, 100)) == []
    assert offsets(await store.fetch("g", 2, 5)) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("offset", [15, 16, 10**9, 2**53, 2**63, 10**30])
async def test_an_offset_that_was_not_reached_is_no_error(scene: Scene, offset: int) -> None:
    store = scene.store(history_size=10)
    await fill(store, "g", 15)
    assert offsets(await store.read("g", offset, 10)) == offsets(await store.fetch("g", offset, 10)) == []
    assert offsets(await store.read_back("g", offset + 1, 2)) == [15, 14]
    assert offsets(await store.last_values("g", offset, 2)) == []


async def test_an_unknown_group_has_empty_pages_and_is_not_made(scene: Scene) -> None:
    store = scene.store()
    for ask in (store.read, store.fetch, store.last_values):
        assert await ask("g", 0, 10) == Page(Position("", 0), ())
    assert await store.read_back("g", None, 10) == Page(Position("", 0), ())
    assert [node.admin.dbsize() for node in scene.nodes] == [0] * len(scene.nodes)


async def test_history_size_0_keeps_nothing_for_readers_and_enough_for_those_who_fell_behind(scene: Scene) -> None:
    store = scene.store(history_size=0)
    await fill(store, "g", 20)
    assert offsets(await store.read("g", 0, 100)) == offsets(await store.read_back("g", None, 100)) == []
    assert offsets(await store.fetch("g", 5, 100)) == list(range(6, 21))


async def test_messages_are_of_history_until_they_are_as_old_as_its_ttl(scene: Scene) -> None:
    store = scene.store(history_size=1000, history_ttl=100.0)
    for _ in range(5):
        await fill(store, "g", 10)
        age(scene.node("g"), "g", 30_000)
    # 150, 120, 90, 60 and 30 seconds old, and a moment
    assert offsets(await store.read("g", 0, 1000)) == list(range(21, 51))
    assert offsets(await store.read("g", 35, 3)) == [36, 37, 38]
    assert offsets(await store.read_back("g", 23, 1000)) == [22, 21]
    age(scene.node("g"), "g", 100_000)
    assert (await store.read("g", 0, 10)).messages == (await store.read_back("g", None, 10)).messages == ()
    assert len((await store.fetch("g", 0, 1000)).messages) == 50


async def test_the_newest_message_is_of_history_whatever_it_weighs(scene: Scene) -> None:
    store = scene.store(history_bytes=1000)
    await fill(store, "g", 3)
    await fill(store, "g", 1, size=5000)
    assert offsets(await store.read("g", 0, 10)) == [4]
    await fill(store, "g", 1)
    assert offsets(await store.read("g", 0, 10)) == [5]


async def test_history_is_full_with_exactly_as_many_bytes_as_it_may_have(scene: Scene) -> None:
    for spare, count in [(0, 3), (-1, 2)]:
        store, group = scene.store(history_bytes=3 * (64 + 5) + spare), f"g{spare}"
        await fill(store, group, 10)
        assert len((await store.read(group, 0, 10)).messages) == count


async def test_key_and_excluded_id_weigh_as_much_in_history_as_a_message_says(scene: Scene) -> None:
    draft = Draft(Kind.TEXT, b"12345", "key", exclude="x" * 64)
    for spare, count in [(0, 3), (-1, 2)]:
        store, group = scene.store(history_bytes=3 * draft.weight + spare), f"g{spare}"
        for _ in range(5):
            await store.publish(group, draft)
        assert len((await store.read(group, 0, 10)).messages) == count


async def test_long_pages_are_without_holes_and_repeats(scene: Scene) -> None:
    store = scene.store(history_size=1000)
    await fill(store, "g", 300)
    for limit in (1, 4, 5, 299, 300, 1000):
        assert offsets(await store.read("g", 0, limit)) == offsets(await store.fetch("g", 0, limit))
        assert offsets(await store.read("g", 0, limit)) == list(range(1, min(limit, 300) + 1))
        assert offsets(await store.read_back("g", None, limit)) == list(range(300, max(300 - limit, 0), -1))


async def test_one_reply_carries_so_many_bytes_and_at_least_two_messages(scene: Scene) -> None:
    store = scene.store(history_bytes=10**9, history_size=100)
    await fill(store, "g", 10)
    await fill(store, "g", 10, size=PAGE_BYTES // 4)
    await fill(store, "g", 3, size=PAGE_BYTES + 1)
    assert offsets(await store.read("g", 0, 100)) == list(range(1, 15))
    assert offsets(await store.fetch("g", 10, 100)) == [11, 12, 13, 14]
    assert offsets(await store.fetch("g", 10, 3)) == [11, 12, 13]
    assert offsets(await store.fetch("g", 20, 100)) == [21, 22]
    assert offsets(await store.read_back("g", None, 100)) == [23, 22]
    assert offsets(await store.read_back("g", 21, 100)) == [20, 19, 18, 17]


async def test_reading_a_long_history_that_is_all_too_old_looks_at_few_messages(scene: Scene) -> None:
    store = scene.store(history_size=5000, history_ttl=60.0)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(fill, store, "g", 20)
    age(scene.node("g"), "g", 59_000)
    await fill(store, "g", 3)
    age(scene.node("g"), "g", 2_000)
    scene.node("g").admin.config_resetstat()
    assert offsets(await store.read("g", 0, 10)) == [1001, 1002, 1003]
    assert scene.node("g").admin.info("commandstats")["cmdstat_xrange"]["calls"] < 20


# What the stream keeps


async def flood(store: Store, group: str, count: int, size: int = 1) -> None:
    """Publish as fast as it goes."""
    draft = Draft(Kind.BINARY, bytes(size))

    async def some(count: int) -> None:
        for _ in range(count):
            await store.publish(group, draft)

    async with trio.open_nursery() as nursery:
        for publisher in range(50):
            nursery.start_soon(some, count // 50 + (publisher < count % 50))


async def test_the_newest_thousand_stay_and_older_ones_go_a_few_at_a_time(scene: Scene) -> None:
    store = scene.store(history_size=0)
    node, stream = scene.node("g"), KEYS.of("g").stream
    await flood(store, "g", 1200)
    assert node.admin.xlen(stream) == 1200  # for they are young
    age(node, "g", 61_000)
    held = [1200]
    for _ in range(300):
        await store.publish("g", Draft.of("x"))
        held.append(node.admin.xlen(stream))
    assert all(later >= earlier + 1 - 8 for earlier, later in pairwise(held))
    assert all(1000 <= count <= 1003 for count in held[-50:])
    top = (await store.position("g")).offset
    assert offsets(await store.fetch("g", top - 1000, 2000)) == list(range(top - 999, top + 1))


async def test_young_messages_go_once_they_weigh_too_much(scene: Scene) -> None:
    store = scene.store(history_size=0)
    admin, stream = scene.node("g").admin, KEYS.of("g").stream
    await flood(store, "g", 1400, size=20_000)  # 16 MiB are 836 of them
    assert 836 <= admin.xlen(stream) <= 839
    await flood(store, "g", 3000)  # of light ones more fit
    assert 3000 <= admin.xlen(stream) <= 3840


async def test_the_newest_messages_weigh_no_more_than_16_mib_and_a_trimming_takes_few(scene: Scene) -> None:
    store = scene.store(history_size=0, max_message=2**20, max_lag_bytes=2**23)
    admin, stream = scene.node("g").admin, KEYS.of("g").stream
    held = []
    for _ in range(40):
        await store.publish("g", Draft(Kind.BINARY, bytes(2**20)))
        held.append(admin.xlen(stream))
    assert held[:15] == list(range(1, 16))
    assert all(15 <= count <= 18 for count in held[15:])  # 16 and what each weighs besides are more
    assert all(later >= earlier + 1 - 5 for earlier, later in pairwise(held))
    assert offsets(await store.fetch("g", 0, 2))[0] == 41 - held[-1]


async def test_a_message_that_is_too_heavy_by_itself_stays_until_the_next_comes(scene: Scene) -> None:
    store = scene.store(history_size=0)
    await fill(store, "g", 3)
    await fill(store, "g", 1, size=17 * 2**20)
    assert offsets(await store.fetch("g", 0, 10)) == [4]
    await fill(store, "g", 4)
    assert offsets(await store.fetch("g", 0, 10)) == [5, 6, 7, 8]


async def test_what_is_of_history_stays_whatever_it_weighs(scene: Scene) -> None:
    store = scene.store(history_size=30, history_bytes=2**25)
    for _ in range(40):
        await store.publish("g", Draft(Kind.BINARY, bytes(2**20)))
    assert 30 <= scene.node("g").admin.xlen(KEYS.of("g").stream) <= 33


@pytest.mark.parametrize(
    ("bounds", "stay"),
    [
        ({"history_size": 1100, "history_bytes": 10**9, "history_ttl": 100.0}, 1100),
        ({"history_size": 1100, "history_bytes": 65 * 1050, "history_ttl": 100.0}, 1050),
        ({"history_size": 1100, "history_bytes": 10**9, "history_ttl": 61.0}, 1000),
    ],
)
async def test_what_is_of_history_stays_beyond_a_thousand(scene: Scene, bounds: dict[str, Any], stay: int) -> None:
    store = scene.store(**bounds)
    await flood(store, "g", 1200)
    age(scene.node("g"), "g", 62_000)
    held = []
    for _ in range(400):
        await store.publish("g", Draft(Kind.BINARY, b"x"))
        held.append(scene.node("g").admin.xlen(KEYS.of("g").stream))
    assert all(stay <= count <= stay + 3 for count in held[350:])


# Last values


async def test_the_newest_message_of_each_key_is_kept_and_those_without_a_key_are_one(scene: Scene) -> None:
    store = scene.store(join=Join.LAST, history_size=0)
    for data, key in [("1", "a"), ("2", None), ("3", "b"), ("4", "-"), ("5", "a"), ("6", None)]:
        await store.publish("g", Draft.of(data, key=key))
    page = await store.last_values("g", 0, 10)
    assert [(m.offset, m.data, m.key) for m in page.messages] == [
        (3, b"3", "b"),
        (4, b"4", "-"),
        (5, b"5", "a"),
        (6, b"6", None),
    ]
    assert page.position.offset == 6
    assert offsets(await store.last_values("g", 3, 2)) == [4, 5]


async def test_the_key_that_was_silent_longest_goes_when_there_are_too_many(scene: Scene) -> None:
    store = scene.store(join=Join.LAST, max_keys=3)
    for key in "abcad":
        await store.publish("g", Draft.of(key, key=key))
    assert [message.key for message in (await store.last_values("g", 0, 10)).messages] == ["c", "a", "d"]
    assert scene.node("g").admin.hlen(KEYS.of("g").values) == 3


async def test_fewer_keys_than_before_take_their_place_a_few_at_a_time(scene: Scene) -> None:
    many, few = scene.store(join=Join.LAST, max_keys=30), scene.store(join=Join.LAST, max_keys=2)
    for number in range(30):
        await many.publish("g", Draft.of("x", key=str(number)))
    counts = []
    for _ in range(6):
        await few.publish("g", Draft.of("y", key="29"))
        counts.append(len((await few.last_values("g", 0, 100)).messages))
    assert counts == [22, 14, 6, 2, 2, 2]


async def test_a_group_without_the_setting_keeps_no_last_values(scene: Scene) -> None:
    store = scene.store()
    await store.publish("g", Draft.of("x", key="k"))
    assert (await store.last_values("g", 0, 10)).messages == ()
    assert (await store.last_values("g", 0, 10)).position.offset == 1


async def test_last_values_are_given_as_many_as_asked_for_whatever_they_weigh(scene: Scene) -> None:
    store = scene.store(join=Join.LAST)
    big = bytes(PAGE_BYTES // 3)
    for number in range(20):
        await store.publish("g", Draft(Kind.BINARY, big, str(number)))
    assert offsets(await store.last_values("g", 2, 15)) == list(range(3, 18))
    assert offsets(await store.last_values("g", 15, 15)) == list(range(16, 21))


# Idempotency


def once(text: str, idempotency_key: str, key: str | None = None) -> Draft:
    return Draft(Kind.TEXT, text.encode(), key, idempotency_key)


async def test_a_repeat_publishes_nothing_and_gets_the_first_answer(scene: Scene) -> None:
    store = scene.store()
    await store.report(KEYS.of("g").partition, "p", {"g": Audience(7, 3)})
    first = await store.publish("g", once("x", "k"))
    await store.report(KEYS.of("g").partition, "p", {"g": Audience(1, 0)})
    await fill(store, "g", 3)
    assert first == Published(first.position, Audience(7, 3))
    assert await store.publish("g", once("x", "k")) == replace(first, repeated=True)
    assert (await store.position("g")).offset == 4


async def test_a_repeat_after_a_new_epoch_still_gets_the_first_answer(scene: Scene) -> None:
    store = scene.store()
    first = await store.publish("g", once("x", "k"))
    await store.check("g", Head(first.position, b"another"))
    assert await store.publish("g", once("x", "k")) == replace(first, repeated=True)
    assert (await store.position("g")).epoch != first.position.epoch


@pytest.mark.parametrize(
    "other", [once("y", "k"), once("x", "k", "key"), Draft(Kind.JSON, b"x", None, "k")], ids=["data", "key", "kind"]
)
async def test_another_message_with_the_same_key_is_refused(scene: Scene, other: Draft) -> None:
    store = scene.store()
    await store.publish("g", once("x", "k"))
    with pytest.raises(IdempotencyConflict):
        await store.publish("g", other)
    assert (await store.position("g")).offset == 1


async def test_a_key_is_of_one_group(scene: Scene) -> None:
    store = scene.store()
    for group in ("a", "a:b", "b"):
        assert at(await store.publish(group, once(group, "b:k"))).offset == 1
    assert at(await store.publish("a", once("a", "k"))).offset == 2


async def test_one_more_key_than_are_remembered_is_refused_and_none_is_forgotten(scene: Scene) -> None:
    store = scene.store(idempotency_keys=3)
    first = [await store.publish("g", once("x", key)) for key in "abc"]
    with pytest.raises(TooManyKeys):
        await store.publish("g", once("x", "d"))
    again = [await store.publish("g", once("x", key)) for key in "abc"]
    assert again == [replace(each, repeated=True) for each in first]
    assert at(await store.publish("g", Draft.of("x"))).offset == 4


async def test_a_key_is_remembered_for_300_seconds_and_then_makes_room(scene: Scene) -> None:
    store = scene.store(idempotency_keys=20)
    node, records = scene.node("g"), KEYS.records(KEYS.of("g").partition)
    for number in range(20):
        await store.publish("g", once("x", str(number)))
    assert 290_000 < node.admin.pttl(KEYS.record("g", "0")) <= 300_000
    for number in range(15):  # their time is over
        node.admin.delete(KEYS.record("g", str(number)))
        node.admin.zincrby(records, -301_000, KEYS.record("g", str(number)))
    few = scene.store(idempotency_keys=6)
    assert at(await few.publish("g", once("another", "0"))).offset == 21
    with pytest.raises(TooManyKeys):
        await few.publish("g", once("x", "one more"))
    for number in range(14):
        assert at(await store.publish("g", once("another", f"new {number}"))).offset == 22 + number
    with pytest.raises(TooManyKeys):
        await store.publish("g", once("x", "one more"))
    assert node.admin.zcard(records) == 20


async def test_of_a_hundred_publishers_with_one_key_one_publishes(scene: Scene) -> None:
    store = scene.store()
    answers: list[Published] = []

    async def publish() -> None:
        answers.append(await store.publish("g", once("x", "k")))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(publish)
    assert len(answers) == 100
    assert {answer.position for answer in answers} == {await store.position("g")}
    assert answers[0].position.offset == 1


# Forks


async def test_what_a_process_has_is_the_same_wherever_it_stands(scene: Scene) -> None:
    store = scene.store()
    heads = [await store.attach("g")]
    for _ in range(5):
        await fill(store, "g", 1)
        heads.append(await store.attach("g"))
    for head in heads:
        assert await store.check("g", head) == Check(same=True, head=heads[-1])
    trimmed = Head(Position(heads[0].position.epoch, 2), b"unknown")
    scene.node("g").admin.xtrim(KEYS.of("g").stream, minid="3-0", approximate=False)
    assert (await store.check("g", trimmed)).same


@pytest.mark.parametrize("ahead", [-1, 0, 1, 100])
async def test_a_server_that_went_back_begins_a_new_epoch_once_and_keeps_what_it_has(scene: Scene, ahead: int) -> None:
    store = scene.store(join=Join.LAST)
    await fill(store, "g", 5)
    now = await store.attach("g")
    ours = Head(Position(now.position.epoch, now.position.offset + ahead), b"of another history")
    async with scene.listening("g") as heard:
        first = await store.check("g", ours)
        assert unpack_told("g", await heard()) == first.head.position
        assert (first.same, first.head.position.offset, first.head.id) == (False, 5, now.id)
        assert first.head.position.epoch != now.position.epoch
        assert await store.check("g", ours) == first  # the next process to ask does not begin another
        assert await store.check("g", now) == first
        published = await store.publish("g", Draft.of("x"))
        assert published.position == Position(first.head.position.epoch, 6)
        told = unpack_told("g", await heard())
        assert isinstance(told, Entry)
        assert told.message.position == published.position
    for page in (await store.fetch("g", 0, 10), await store.read("g", 0, 10)):
        assert [message.position for message in page.messages] == [
            Position(published.position.epoch, offset) for offset in range(1, 7)
        ]
    assert [m.position for m in (await store.last_values("g", 0, 10)).messages] == [published.position]


async def test_an_emptied_server_begins_a_new_epoch_and_says_so(scene: Scene) -> None:
    store = scene.store()
    await fill(store, "g", 5)
    now = await store.attach("g")
    for node in scene.nodes:
        node.admin.flushall()
    async with scene.listening("g") as heard:
        check = await store.check("g", now)
        assert (check.same, check.head.position.offset, check.head.id) == (False, 0, b"")
        assert check.head.position.epoch not in ("", now.position.epoch)
        assert unpack_told("g", await heard()) == check.head.position
    assert at(await store.publish("g", Draft.of("x"))) == Position(check.head.position.epoch, 1)


async def test_a_group_that_was_published_to_after_the_server_was_emptied_is_told_by_its_epoch(scene: Scene) -> None:
    store = scene.store()
    await fill(store, "g", 5)
    ours = await store.attach("g")
    for node in scene.nodes:
        node.admin.flushall()
    await fill(store, "g", 9)
    now = await store.attach("g")
    assert await store.check("g", ours) == Check(same=False, head=now)


# Counts


async def test_counts_are_the_sums_of_what_each_process_last_reported(scene: Scene) -> None:
    store = scene.store()
    partition = KEYS.of("g").partition
    assert not await store.report(partition, "one", {"g": Audience(5, 2)})
    assert not await store.report(partition, "two", {"g": Audience(10, 0)})
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(15, 2)
    assert await store.report(partition, "one", {"g": Audience(6, 1)})
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(16, 1)
    assert await store.census(["g", "h"]) == {"g": {"one": Audience(6, 1), "two": Audience(10, 0)}, "h": {}}
    assert await store.report(partition, "one", {"g": Audience(0, 0)})
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(10, 0)
    assert await store.census(["g"]) == {"g": {"two": Audience(10, 0)}}


async def test_many_groups_are_reported_and_asked_about_at_once(scene: Scene) -> None:
    store = scene.store()
    groups = [f"room:{number}" for number in range(500)]
    wanted = {group: {"p": Audience(number + 1, number)} for number, group in enumerate(groups)}
    for partition in range(PARTITIONS):
        counts = {group: wanted[group]["p"] for group in groups if KEYS.of(group).partition == partition}
        await store.report(partition, "p", counts)
    assert await store.census(groups) == wanted
    for group in groups[::50]:
        assert (await store.publish(group, Draft.of("x"))).audience == wanted[group]["p"]


async def test_a_process_that_reports_nothing_for_three_seconds_counts_no_more(scene: Scene) -> None:
    store = scene.store()
    partition = KEYS.of("g").partition
    node, processes = scene.node("g"), KEYS.processes(partition)
    for process in ("dead", "alive"):
        await store.report(partition, process, {"g": Audience(5, 2)})
    node.admin.zincrby(processes, -3_000, "dead")  # as if it had said nothing since
    node.admin.hdel(KEYS.of("g").meta, "q")
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(5, 2)
    assert await store.census(["g"]) == {"g": {"alive": Audience(5, 2)}}
    assert await store.report(partition, "dead", {})  # it was only slow
    assert await store.census(["g"]) == {"g": dict.fromkeys(("alive", "dead"), Audience(5, 2))}
    node.admin.zincrby(processes, -61_000, "dead")
    await store.report(partition, "alive", {})
    assert node.admin.zscore(processes, "dead") is None
    assert not await store.report(partition, "dead", {})


async def test_sums_are_remembered_until_the_first_of_the_processes_would_be_dead(scene: Scene) -> None:
    store = scene.store()
    partition = KEYS.of("g").partition
    node, meta = scene.node("g"), KEYS.of("g").meta
    await store.report(partition, "p", {"g": Audience(5, 2)})
    node.admin.zincrby(KEYS.processes(partition), -2_700, "p")
    await store.publish("g", Draft.of("x"))
    seen = int(node.admin.zscore(KEYS.processes(partition), "p"))
    assert int(node.admin.hget(meta, "q").split()[0]) == seen + 3_000
    node.admin.hset(meta, "q", f"{seen} 5 2")  # that is over
    node.admin.zrem(KEYS.processes(partition), "p")
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(0, 0)


async def test_sums_from_a_clock_that_was_put_back_are_not_believed(scene: Scene) -> None:
    store = scene.store()
    await fill(store, "g", 1)
    scene.node("g").admin.hset(KEYS.of("g").meta, "q", "9999999999999 100 100")
    assert (await store.publish("g", Draft.of("x"))).audience == Audience(0, 0)


async def test_a_random_id_of_each_message_is_all_that_tells_histories_apart(scene: Scene) -> None:
    store = scene.store()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(partial(fill, store, f"g{secrets.token_hex(2)}", 3))
    ids = [
        fields[b"m"].split(b" ")[2]
        for node in scene.nodes
        for key in node.admin.keys("*:s:*")
        for _, fields in node.admin.xrange(key)
    ]
    assert len(set(ids)) == len(ids) == 30
