"""The listener against the real server, on a network that cuts it off in mid-frame, again and again."""

from __future__ import annotations

import random
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping

import pytest
import trio
from tests.served import PATIENCE, Served, served

from triocast import Draft
from triocast.client import (
    BackoffSettings,
    Gap,
    Left,
    Listener,
    ListenerClosed,
    ListenerSettings,
    Lost,
    Received,
    open_listener,
)
from triocast.client.target import Target
from triocast.client.way import FormatName, TransportName
from triocast.settings import Settings

URL = "http://127.0.0.1:1"  # where it is, the network knows
AT_ONCE = BackoffSettings(floor=0, first=0, cap=0)
KEEPING_ALL = Settings(history_size=10_000, history_bytes=2**26, recovery_limit=10_000, max_lag=10_000)


class Cut(trio.abc.Stream):
    """A stream that breaks after some bytes have come, wherever in a frame or a handshake that is."""

    def __init__(self, stream: trio.abc.Stream, left: int) -> None:
        self._stream = stream
        self._left = left

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._left == 0:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError
        data = await self._stream.receive_some(min(self._left, max_bytes or self._left))
        self._left -= len(data)
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Network:
    """The way to a server; `allowance` says after how many bytes each connection breaks."""

    def __init__(self, server: Served, allowance: Callable[[], int] = lambda: 2**30) -> None:
        self.server = server
        self.there = trio.Event()  # whether there is a server
        self.there.set()
        self.dialled = 0
        self._allowance = allowance

    async def dial(self, target: Target, context: ssl.SSLContext | None) -> trio.abc.Stream:
        await self.there.wait()
        self.dialled += 1
        stream = await trio.open_tcp_stream("127.0.0.1", self.server.port)
        return Cut(stream, 1000 if self.dialled == 1 else self._allowance())  # the first attempt is not repeated

    def settings(self, max_waiting: int = 16) -> ListenerSettings:
        return ListenerSettings(dial=self.dial, backoff=AT_ONCE, max_waiting=max_waiting)


async def publish(server: Served, group: str, *numbers: int) -> None:
    for number in numbers:
        await server.hub.publish(group, Draft.of(str(number)))


async def publish_at_random(server: Served, groups: Mapping[str, int], source: random.Random) -> None:
    """Publish 1, 2, 3 … to each group, up to its number, with pauses here and there."""
    left = [group for group, count in groups.items() for _ in range(count)]
    source.shuffle(left)
    counts: dict[str, int] = defaultdict(int)
    for group in left:
        counts[group] += 1
        await publish(server, group, counts[group])
        for _ in range(source.choice([0, 0, 0, 50])):
            await trio.lowlevel.checkpoint()


async def take_until(messages: Listener, ends: Mapping[str, int]) -> dict[str, list[Received | Gap]]:
    """Take what comes until each group has come to its end."""
    taken: dict[str, list[Received | Gap]] = {group: [] for group in ends}
    missing = dict(ends)
    while missing:
        item = await anext(messages)
        assert item.group is not None
        assert not isinstance(item, Left)
        taken[item.group].append(item)
        if (item.last if isinstance(item, Gap) else item.offset) == missing.get(item.group):
            del missing[item.group]
    return taken


def numbers(items: list[Received | Gap]) -> list[str | bytes]:
    return [item.data for item in items if isinstance(item, Received)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("transport", "form", "groups"),
    [
        ("websocket", "json", {"a": 700, "b": 300}),
        ("websocket", "raw", {"a": 1000}),
        ("sse", "json", {"a": 700, "b": 300}),
        ("sse", "raw", {"a": 700, "b": 300}),
        ("sse", "raw", {"a": 1000}),
    ],
)
async def test_cut_off_at_random_it_gives_everything_once_and_in_order(
    transport: TransportName, form: FormatName, groups: dict[str, int], seed: int
) -> None:
    source = random.Random(seed)
    most = 900 if (transport, form) == ("websocket", "raw") else 6000  # what is written of a message
    async with served(KEEPING_ALL) as server, trio.open_nursery() as nursery:
        network = Network(server, lambda: source.randrange(100, most))
        with trio.fail_after(PATIENCE):
            async with open_listener(
                URL, list(groups), format=form, transport=transport, settings=network.settings()
            ) as messages:
                nursery.start_soon(publish_at_random, server, groups, source)
                taken = await take_until(messages, groups)
                positions = messages.positions
        for group, count in groups.items():
            assert numbers(taken[group]) == [str(number) for number in range(1, count + 1)]
            assert len(taken[group]) == count
            assert positions[group].endswith(f":{count}")
        assert network.dialled > 5


EVERY_WAY = pytest.mark.parametrize("transport", ["websocket", "sse"])
EVERY_FORMAT = pytest.mark.parametrize("form", ["json", "raw"])


@pytest.mark.parametrize("seed", range(4))
@EVERY_FORMAT
@EVERY_WAY
async def test_what_the_server_does_not_keep_is_named_in_its_place(
    transport: TransportName, form: FormatName, seed: int
) -> None:
    source = random.Random(seed)
    async with served(Settings(history_size=5, max_lag=20)) as server, trio.open_nursery() as nursery:
        network = Network(server, lambda: source.randrange(100, 1500))
        with trio.fail_after(PATIENCE):
            async with open_listener(
                URL, ["a"], format=form, transport=transport, settings=network.settings()
            ) as messages:
                nursery.start_soon(publish_at_random, server, {"a": 1000}, source)
                at = 0
                while at < 1000:
                    item = await anext(messages)
                    assert not isinstance(item, Left)
                    first, last = (item.first, item.last) if isinstance(item, Gap) else (item.offset, item.offset)
                    assert first == at + 1
                    assert isinstance(item, Gap) or item.data == str(first)
                    assert last is not None
                    at = last


@EVERY_FORMAT
@EVERY_WAY
async def test_a_server_that_was_restarted_is_one_gap_and_then_all_that_it_keeps(
    transport: TransportName, form: FormatName
) -> None:
    with trio.fail_after(PATIENCE):
        async with served() as first:
            network = Network(first)
            async with open_listener(
                URL, ["a"], format=form, transport=transport, settings=network.settings()
            ) as messages:
                await publish(first, "a", 1, 2, 3)
                assert numbers((await take_until(messages, {"a": 3}))["a"]) == ["1", "2", "3"]
                before = messages.positions["a"].split(":")[0]
                network.there = trio.Event()
                first.host.reset_all()
                async with served() as second:
                    network.server = second
                    await publish(second, "a", 4, 5)
                    network.there.set()
                    gap, *rest = (await take_until(messages, {"a": 2}))["a"]
                    now = messages.positions["a"].split(":")[0]
        assert (transport, form) == ("websocket", "raw") or gap == Gap("a", 1, 0, "epoch", (before, now))
        assert numbers(rest) == ["4", "5"]
        assert before != now


@EVERY_WAY
async def test_a_program_goes_on_where_it_was_before_its_own_restart(transport: TransportName) -> None:
    with trio.fail_after(PATIENCE):
        async with served() as server:
            settings = Network(server).settings()
            async with open_listener(URL, ["a", "b"], transport=transport, settings=settings) as messages:
                await publish(server, "a", 1, 2, 3)
                assert [(await anext(messages)).group for _ in range(2)] == ["a", "a"]
                stored = messages.positions
            await publish(server, "a", 4)
            await publish(server, "b", 1)
            async with open_listener(URL, ["b", "a"], transport=transport, since=stored, settings=settings) as messages:
                taken = await take_until(messages, {"a": 4, "b": 1})
    assert {group: numbers(items) for group, items in taken.items()} == {"a": ["3", "4"], "b": ["1"]}


@EVERY_WAY
async def test_it_begins_with_the_last_few_or_with_the_oldest_kept(transport: TransportName) -> None:
    with trio.fail_after(PATIENCE):
        async with served(Settings(history_size=3)) as server:
            settings = Network(server).settings()
            await publish(server, "a", 1, 2, 3, 4, 5)
            async with open_listener(URL, ["a"], last=2, transport=transport, settings=settings) as messages:
                assert numbers((await take_until(messages, {"a": 5}))["a"]) == ["4", "5"]
            async with open_listener(URL, ["a"], since="0", transport=transport, settings=settings) as messages:
                assert numbers((await take_until(messages, {"a": 5}))["a"]) == ["3", "4", "5"]


async def test_a_slow_raw_listener_is_closed_and_goes_on_without_missing_anything() -> None:
    settings = Settings(history_size=1000, history_bytes=2**28, max_lag=4)
    with trio.fail_after(PATIENCE):
        async with served(settings, send_buffer=4096) as server:
            network = Network(server)
            listening = network.settings(max_waiting=1)
            async with open_listener(URL, ["a"], format="raw", settings=listening) as messages:
                lagging = count = 0
                while lagging < 20:  # until the socket is full, and then some
                    count += 1
                    lagging += (await server.hub.publish("a", Draft.of(str(count).ljust(100_000)))).behind
                taken = (await take_until(messages, {"a": count}))["a"]
    assert [str(data).strip() for data in numbers(taken)] == [str(number) for number in range(1, count + 1)]
    assert network.dialled > 1


@pytest.mark.parametrize(("form", "begins"), [("json", [Gap("a", 1, 3, "limit")]), ("raw", [])])
async def test_more_than_is_recovered_at_once_is_named_where_it_can_be(form: FormatName, begins: list[Gap]) -> None:
    with trio.fail_after(PATIENCE):
        async with served(Settings(recovery_limit=2)) as server:
            await publish(server, "a", 1, 2, 3, 4, 5)
            settings = Network(server).settings()
            async with open_listener(URL, ["a"], format=form, since="0", settings=settings) as messages:
                taken = (await take_until(messages, {"a": 5}))["a"]
    assert taken == [*begins, Received("4", "a", 4), Received("5", "a", 5)]


async def test_a_server_that_ends_says_so_and_is_found_again() -> None:
    with trio.fail_after(PATIENCE):
        async with served() as first:
            network = Network(first)
            send, losses = trio.open_memory_channel[Lost](10)
            settings = network.settings()
            async with open_listener(
                URL, ["a"], transport="sse", settings=settings, on_lost=send.send_nowait
            ) as messages:
                await publish(first, "a", 0)
                assert (await anext(messages)).group == "a"  # from here on it knows where it is
                network.there = trio.Event()
                await first.hub.roster.drain()
                assert (await losses.receive()).why.startswith("closed with 1012: the server is restarting")
                async with served() as second:
                    network.server = second
                    await publish(second, "a", 1)
                    network.there.set()
                    assert numbers((await take_until(messages, {"a": 1}))["a"]) == ["1"]


@EVERY_WAY
async def test_who_is_taken_out_of_a_group_is_told_and_hears_the_others(transport: TransportName) -> None:
    with trio.fail_after(PATIENCE):
        async with served() as server:
            url = f"http://127.0.0.1:{server.port}"
            async with open_listener(url, ["a", "b"], transport=transport) as messages:
                (connection,) = server.hub.roster
                await publish(server, "a", 1)
                assert await anext(messages) == Received("1", "a", 1)
                await server.push.group("a").discard(connection)
                await publish(server, "a", 2)
                await publish(server, "b", 1)
                items = [await anext(messages) for _ in range(2)]
                epoch = (await server.hub.info("a")).epoch
                assert sorted(items, key=str) == [Left("a", epoch, 1), Received("1", "b", 1)]
                await server.push.group("a").add(connection)
                await publish(server, "a", 3)
                assert await anext(messages) == Received("3", "a", 3)


@EVERY_WAY
async def test_who_is_removed_is_told_why_and_who_is_disconnected_does_not_come_back(transport: TransportName) -> None:
    with trio.fail_after(PATIENCE):
        async with served() as server:
            network = Network(server)
            async with open_listener(URL, ["a", "b"], transport=transport, settings=network.settings()) as messages:
                (connection,) = server.hub.roster
                await publish(server, "a", 1)
                assert await anext(messages) == Received("1", "a", 1)
                assert await server.push.group("a").remove(connection.id, code=4003, reason="not here")
                epoch = (await server.hub.info("a")).epoch
                assert await anext(messages) == Left("a", epoch, 1, 4003, "not here")
                assert await server.push.disconnect(client=connection.id) == 1
                with pytest.raises(ListenerClosed, match="3503: disconnected by the server"):
                    await anext(messages)
            assert network.dialled == 1
