"""A server that leaves lets those in who had connected before, over real sockets: nobody is stranded on a doorstep."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.link.harness import UPGRADE, Client
from triocast.serve.listeners import listen_on, open_sockets
from triocast.serve.loop import serve_on
from triocast.settings import Settings
from triocast.web import create_app

PATIENCE = 10.0  # seconds until a test gives up


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A server that leaves gives signals their own meaning back: the next one is to end the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@asynccontextmanager
async def leaving(settings: Settings) -> AsyncIterator[tuple[int, trio.Event]]:
    """Serve; give the port, and the event that tells the server to leave. At the end of the block it has."""
    accepting, leave = trio.Event(), trio.Event()

    async def told() -> str:
        await leave.wait()
        return "told"

    async with open_sockets(settings) as bound, trio.open_nursery() as nursery:
        app = create_app(settings)
        nursery.start_soon(serve_on, listen_on(bound, settings), app, settings, accepting.set, told)
        await accepting.wait()
        yield bound[0].address.port, leave


async def accepted(port: int) -> trio.SocketStream:
    """Return a connection that was accepted, and on which no more was said than the first letter of a request: before
    that, the kernel keeps it to itself."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"G")
    async with await trio.open_tcp_stream("127.0.0.1", port) as later:  # they are accepted in the order of their coming
        await later.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await later.receive_some()).startswith(b"HTTP/1.1 200")
    return stream


async def test_who_connected_before_is_taken_in_and_told_to_come_back() -> None:
    with trio.fail_after(PATIENCE):
        async with leaving(Settings(bind=("127.0.0.1:0",))) as (port, leave):
            stream = await accepted(port)
            leave.set()
            await closed(port)
            async with stream:
                client = Client(stream)
                await client.send(UPGRADE.replace(b"GET / ", b"ET /ws/g ") + b"\r\n")
                assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
                assert (await client.close())[0] == 1012


async def test_who_connected_and_says_no_more_holds_it_up_for_a_second_at_most() -> None:
    with trio.fail_after(PATIENCE):
        async with leaving(Settings(bind=("127.0.0.1:0",), grace=3600.0, header_timeout=3600.0)) as (port, leave):
            stream = await accepted(port)
            leave.set()
            async with stream:
                assert await stream.receive_some() == b""


async def closed(port: int) -> None:
    """Wait until nobody listens there any more."""
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            return
        await trio.aclose_forcefully(stream)
