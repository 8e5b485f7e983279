"""Server-sent events over HTTP/1: what clients get, whichever way it is written, checked byte by byte."""

from __future__ import annotations

import json
import random
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from tests.served import Served, served
from tests.sse import PATIENCE, Event, Listener, connect
from tests.transports.stage import TINY, Contexts
from triocast import Settings

KIB = 1024
BIG = 64 * KIB
PATIENT = Settings(write_timeout=600)
NOISE = b64encode(random.Random(0).randbytes(8 * BIG)).decode()


@dataclass(frozen=True)
class Way:
    """A kind of connection, and with it a way to write; `groups` are what a client listens to."""

    name: str
    tls: bool = False
    version: str = "1.1"
    groups: tuple[str, ...] = ("a",)

    def __str__(self) -> str:
        return f"{self.name}-{'tls' if self.tls else 'tcp'}-{len(self.groups)}"

    @property
    def target(self) -> str:
        return "/sse?" + "&".join(f"group={group}" for group in self.groups)


WAYS = (
    Way("direct"),
    Way("direct", tls=True),
    Way("direct", groups=("a", "b", "c")),
    Way("portable", version="1.0"),
    Way("portable", version="1.0", groups=("a", "b")),
)


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    """Every way to write events to a client over HTTP/1."""
    param: Way = request.param
    return param


class Stage:
    """What is served, and to whom."""

    def __init__(self, app: Served, way: Way) -> None:
        self.app = app
        self.way = way
        self._clients: list[Listener] = []

    async def connect(self, *, buffer: int | None = None) -> Listener:
        client = await connect(self.app.port, buffer=buffer, trust=self.app.trust)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()

    async def listener(self, *, buffer: int | None = None, behind: bytes = b"") -> Listener:
        """Connect a client that has been greeted by each of its groups."""
        client = await self.connect(buffer=buffer)
        await client.listen(self.way.target, version=self.way.version, behind=behind)
        ways = {repr(each).split(" by ")[1].split(",")[0] for each in self.app.hub.roster}
        assert ways == {f"{self.way.name} events"}
        return await client.joined(*self.way.groups)

    async def publish(self, *messages: object, group: str = "a") -> None:
        for message in messages:
            await self.app.push.group(group).send(message)

    async def wait_left(self, connections: int = 0) -> None:
        """Wait until all but so many are over, with their sockets."""
        await self.app.wait_connections(connections)
        assert self.app.hub.connections == connections


@asynccontextmanager
async def stage(
    way: Way, contexts: Contexts, settings: Settings | None = None, send_buffer: int | None = None
) -> AsyncIterator[Stage]:
    tls, trust = contexts if way.tls else (None, None)
    async with served(settings, tls=tls, trust=trust, send_buffer=send_buffer) as app:
        scene = Stage(app, way)
        try:
            yield scene
        finally:
            scene.close()


def numbered(number: int, size: int) -> str:
    text = f"{number} "
    return text + NOISE[: max(0, size - len(text))]


def number_of(event: Event) -> int:
    return int(event.data.split(" ", 1)[0])


async def test_every_kind_comes_in_order_with_its_position(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts) as scene:
        client = await scene.listener()
        await scene.publish("", "two\nlines\r\nor\rmore", {"a": 1}, b"\x00\xff", "x" * 100_000)
        events = await client.events(5)
        assert [(event.name, event.data) for event in events] == [
            ("message", ""),
            ("message", "two\nlines\nor\nmore"),
            ("message", '{"a":1}'),
            ("binary", "AP8="),
            ("message", "x" * 100_000),
        ]
        assert b64decode(events[3].data) == b"\x00\xff"
        epoch = (await scene.app.push.group("a").info()).epoch
        firsts = [event.id.split(",")[0] for event in events]
        assert firsts == [f"{epoch}:{offset}" for offset in range(1, 6)]
        assert all(event.id.count(",") == len(way.groups) - 1 for event in events)


async def test_each_client_of_several_groups_has_all_its_positions_in_every_event(contexts: Contexts) -> None:
    way = Way("direct", groups=("b", "a"))
    async with stage(way, contexts) as scene:
        await scene.publish("before", group="a")
        client = await scene.listener()
        epochs = {group: (await scene.app.push.group(group).info()).epoch for group in "ab"}
        await scene.publish("1", group="b")
        await scene.publish("2")
        await scene.publish("3", group="b")
        assert [(event.data, event.id) for event in await client.events(3)] == [
            ("1", f"{epochs['b']}:1,{epochs['a']}:1"),
            ("2", f"{epochs['b']}:1,{epochs['a']}:2"),
            ("3", f"{epochs['b']}:2,{epochs['a']}:2"),
        ]


async def test_large_and_small_events_come_whole_to_who_reads_little_at_a_time(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as scene:
        slow, fast = await scene.listener(buffer=TINY), await scene.listener()
        slow.bite = 1_009
        sizes = [random.Random(number).choice((1, 100, 9_000, BIG, 3 * BIG)) for number in range(40)]
        got: dict[Listener, list[int]] = {slow: [], fast: []}

        async def take(client: Listener) -> None:
            for number, size in enumerate(sizes):
                event = await client.event()
                assert event.data == numbered(number, size)
                got[client].append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, slow)
            nursery.start_soon(take, fast)
            nursery.start_soon(scene.publish, *(numbered(number, size) for number, size in enumerate(sizes)))
        assert got[slow] == got[fast] == list(range(40))


async def test_a_client_that_lags_is_told_of_the_gap_in_its_place(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, replace(PATIENT, max_lag=8), send_buffer=TINY) as scene:
        slow, fast = await scene.listener(buffer=TINY), await scene.listener()
        for number in range(1, 61):
            await scene.publish(numbered(number, BIG))
            assert number_of(await fast.event()) == number
        expected = 1
        while expected <= 60:
            event = await slow.event()
            if event.name == "gap":
                gap = json.loads(event.data)["gap"]
                assert (gap["from"], gap["reason"]) == (expected, "slow")
                expected = gap["to"] + 1
            else:
                assert number_of(event) == expected
                expected += 1
            assert event.id.split(",")[0].endswith(f":{expected - 1}")


async def test_a_client_that_stops_reading_is_reset_after_write_timeout_and_harms_nobody(
    way: Way, contexts: Contexts
) -> None:
    async with stage(way, contexts, Settings(write_timeout=0.4, ping_timeout=0.4), send_buffer=TINY) as scene:
        stalled, witness = await scene.listener(buffer=TINY), await scene.listener()
        for number in range(6):
            await scene.publish(numbered(number, BIG))
            assert number_of(await witness.event()) == number
        await scene.wait_left(1)
        with pytest.raises(ConnectionResetError), trio.fail_after(PATIENCE):
            while await stalled.socket.recv(BIG):  # what the kernel had taken may still come
                pass
        await scene.publish("last")
        assert (await witness.event()).data == "last"


@pytest.mark.parametrize("behind", [b"", b"GET /health/live HTTP/1.1\r\n", b"\x00" * 500_000])
@pytest.mark.parametrize("how", ["fin", "rst", "half"])
async def test_a_client_that_is_gone_is_noticed_at_once_also_behind_bytes_of_its(
    way: Way, contexts: Contexts, how: str, behind: bytes
) -> None:
    # Nothing is written meanwhile, and no heartbeat is due: only the end itself can be seen.
    async with stage(way, contexts, Settings(ping_interval=600, ping_timeout=600)) as scene:
        client = await scene.listener(behind=behind)
        assert scene.app.hub.connections == 1
        match how:
            case "fin":
                client.socket.close()
            case "rst":
                client.reset()
            case "half":
                client.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(1):
            while scene.app.hub.connections:
                await trio.sleep(0.002)
        client.socket.close()
        await scene.wait_left()
        assert scene.app.hub.groups == 0


async def test_a_close_comes_after_what_was_sent_and_then_the_end(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as scene:
        client, slow = await scene.listener(), await scene.listener(buffer=TINY)
        await scene.publish(numbered(1, 3 * BIG))
        async with trio.open_nursery() as nursery:
            assert number_of(await client.event()) == 1
            nursery.start_soon(scene.app.hub.roster.drain)
            for each in (client, slow):
                events = await each.to_the_end()
                closed = events.pop()
                assert (closed.name, json.loads(closed.data)["code"]) == ("close", 1012)
                assert [number_of(event) for event in events if event.name == "message"] in ([], [1])
                assert each.whole or way.version == "1.0"
            client.socket.close()
            slow.socket.close()
        await scene.wait_left()


async def test_heartbeats_are_comments_between_events(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, Settings(ping_interval=0.05)) as scene:
        client = await scene.listener()
        for number in range(5):
            await client.comment()
            await scene.publish(numbered(number, 100))
            assert number_of(await client.event()) == number


async def test_clients_come_and_go_and_leave_nothing_behind(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, send_buffer=TINY) as scene:
        witness = await scene.listener()
        over = trio.Event()

        async def publish() -> None:
            number = 0
            while not over.is_set():
                await scene.publish(numbered(number, number * 97 % 9_000))
                assert number_of(await witness.event()) == number
                number += 1

        async def visit(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(6):
                client = await scene.connect(buffer=rng.choice([None, TINY]))
                await client.listen(way.target, version=way.version)
                await client.events(rng.randrange(5))
                rng.choice([client.reset, client.socket.close])()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            async with trio.open_nursery() as visitors:
                for seed in range(4):
                    visitors.start_soon(visit, seed)
            over.set()
        await scene.wait_left(1)
        await scene.publish("last")
        assert (await witness.event()).data == "last"
