"""What ends leaves nothing to the garbage collector: a server that tunes it to run rarely must not need it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from tests.link.harness import Client, close_frame
from tests.poll import poller
from tests.served import Served, served
from tests.sse import connect

ROUNDS = 5


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector, off but for what the test asks of it."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def close_in_order(world: Served) -> None:
    client = await upgraded(world)
    await client.send(close_frame(1000))
    await client.eof()
    await client.stream.aclose()


async def break_off(world: Served) -> None:
    (await upgraded(world)).reset()


async def publish_and_go(world: Served) -> None:
    async with await world.connect() as stream:
        client = Client(stream)
        for _ in range(3):
            await client.send(b"POST /publish/g HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\nhi")
            await client.until(b"}")


async def poll_and_go(world: Served) -> None:
    async with poller(world.port) as client:
        answer = await client.poll("/poll/g?since=gone:1&wait=0")
        assert answer.status == 200
        await client.ask("/poll/g?wait=60")
        while not world.hub.groups:
            await trio.testing.wait_all_tasks_blocked(0.001)
        client.reset()


async def listen_and_break_off(world: Served) -> None:
    listener = await connect(world.port)
    await (await listener.listen("/sse/g")).joined()
    listener.reset()


async def listen_until_the_end(world: Served) -> None:
    listener = await connect(world.port)
    await listener.listen("/sse/g?strict=1&since=gone:1")
    assert [event.name for event in await listener.to_the_end()][-1:] == ["close"]
    await listener.stream.aclose()


async def upgraded(world: Served) -> Client:
    client = Client(await world.connect())
    await client.send(
        b"GET /ws/g HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await client.until(b"\r\n\r\n")
    return client


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize(
    "visit", [close_in_order, break_off, publish_and_go, poll_and_go, listen_and_break_off, listen_until_the_end]
)
async def test_a_connection_that_is_over_leaves_no_cycle(visit: Callable[[Served], Awaitable[None]]) -> None:
    async with served() as world:
        await visit(world)  # what is made once
        await world.wait_connections(0)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(ROUNDS):
            await visit(world)
        await world.wait_connections(0)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        ours = [type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("triocast")]
        assert ours == []
        # A connection is some 400 objects, of trio's and Hypercorn's too; a few are somebody's cache.
        assert len(gc.garbage) < 100 * ROUNDS


@pytest.mark.usefixtures("collector")
async def test_a_connection_that_is_over_is_not_kept_until_it_would_have_been_cut_off() -> None:
    async with served() as world:
        client = await upgraded(world)
        (link,) = world.host._links.live
        left = weakref.ref(link)
        del link
        await client.send(close_frame(1000))
        await client.eof()
        await client.stream.aclose()
        await world.wait_connections(0)
        await trio.testing.wait_all_tasks_blocked()
        assert left() is None
