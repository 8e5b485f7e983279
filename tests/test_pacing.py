"""Whoever comes in leaves turns of the event loop to those who are there."""

from __future__ import annotations

import socket
import sys

import pytest
import trio
import trio.testing

from triocast.serve.listeners import DEFER, open_sockets
from triocast.serve.pacing import TURNS, Paced
from triocast.settings import Settings


class Crowd(trio.abc.Listener[trio.abc.Stream]):
    """There is always one more who wants in."""

    def __init__(self) -> None:
        self.accepted = 0
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.accepted += 1
        one, _ = trio.testing.memory_stream_pair()
        return one

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_between_two_who_come_in_everybody_else_has_turns() -> None:
    crowd = Crowd()
    paced = Paced(crowd)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(10):
            await paced.accept()
        assert turns >= 10 * TURNS
        nursery.cancel_scope.cancel()
    assert crowd.accepted == 10


async def test_who_stops_to_accept_has_taken_nobody() -> None:
    crowd = Crowd()
    with trio.CancelScope() as scope:
        scope.cancel()
        await Paced(crowd).accept()
    assert scope.cancelled_caught
    assert not crowd.accepted


async def test_closing_it_closes_the_listener_below() -> None:
    crowd = Crowd()
    await Paced(crowd).aclose()
    assert crowd.closed


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone holds connections back until their client speaks")
async def test_the_kernel_hands_a_connection_over_once_its_client_has_said_something() -> None:
    async with open_sockets(Settings(bind=("127.0.0.1:0",))) as (listening,):
        listener = trio.SocketListener(listening.socket)
        assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) >= DEFER
        stream = await trio.open_tcp_stream("127.0.0.1", listening.address.port)
        async with stream:
            await stream.send_all(b"here I am")
            with trio.fail_after(10):
                accepted = await listener.accept()
                assert await accepted.receive_some(100) == b"here I am"
            await accepted.aclose()
