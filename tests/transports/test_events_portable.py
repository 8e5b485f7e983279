"""Server-sent events by ASGI alone, on a server that watches nothing: on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.sse import Reader
from triocast import Settings
from triocast.core.listening import Listening
from triocast.core.message import Gap, GapReason, Kind, Message, Position
from triocast.core.wire import Joined
from triocast.core.wire.sse import COMMENT
from triocast.errors import RESTART
from triocast.transport import Disconnected
from triocast.transports.events import Call, PortableEvents

SETTINGS = Settings(ping_interval=15, write_timeout=10)


class Server:
    """Any ASGI server: it keeps what is sent, or does not get rid of it while it is `stuck`."""

    def __init__(self, version: str = "1.1") -> None:
        self.sent: list[Any] = []
        self.stuck = False
        self.leave = trio.Event()
        self.call = Call({"http_version": version, "headers": []}, self._receive, self._send, [(b"x-mine", b"yes")])

    async def _receive(self) -> Any:
        if not self.sent or self.leave.is_set():
            return {"type": "http.disconnect"}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self.stuck:
            await trio.sleep_forever()
        self.sent.append(event)

    @property
    def bodies(self) -> list[bytes]:
        return [event["body"] for event in self.sent if event["type"] == "http.response.body"]


async def opened(server: Server, *groups: str, **since: Position) -> PortableEvents:
    transport = PortableEvents(server.call, Listening(groups, since), SETTINGS, None)
    await transport.open([Position(f"e{group}", 1) for group in groups])
    return transport


def message(group: str, offset: int) -> Message:
    return Message(group, f"e{group}", offset, Kind.TEXT, b"x")


async def test_the_head_comes_at_once_and_with_a_body() -> None:
    for version, closing in (("1.0", True), ("1.1", True), ("2", False)):
        server = Server(version)
        await opened(server, "a")
        head, first = server.sent
        assert (head["status"], (b"x-mine", b"yes") in head["headers"]) == (200, True)
        assert ((b"connection", b"close") in head["headers"]) == closing
        assert first["more_body"]
        assert first["body"].startswith(b"retry: ")


async def test_a_comment_comes_every_interval(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    transport = await opened(server, "a")
    with trio.move_on_after(4 * SETTINGS.ping_interval + 1):
        await transport.receive()
    assert server.bodies[1:] == [COMMENT] * 4
    server.leave.set()
    with pytest.raises(Disconnected):
        await transport.receive()


async def test_a_write_that_makes_no_progress_breaks_the_transport(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    transport = await opened(server, "a")
    server.stuck = True
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await transport.send([message("a", 2)])
    assert trio.current_time() - began == SETTINGS.write_timeout
    with pytest.raises(Disconnected):  # once a heartbeat meets the same
        await transport.receive()
    assert trio.current_time() - began == 2 * SETTINGS.write_timeout + SETTINGS.ping_interval


async def test_no_comment_waits_behind_what_is_being_written(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    transport = PortableEvents(server.call, Listening(("a",), {}), Settings(ping_interval=3, write_timeout=10), None)
    await transport.open([Position("ea", 1)])
    server.stuck = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_broken, transport)
        with trio.fail_after(8):
            await trio.sleep(5)
            server.leave.set()
            with pytest.raises(Disconnected):
                await transport.receive()


async def _broken(transport: PortableEvents) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await transport.send([message("a", 2)])


async def test_events_told_together_are_written_together() -> None:
    server = Server()
    transport = await opened(server, "a", "b")
    gap = Gap("b", "eb", 2, 7, GapReason.SLOW)
    await transport.send([Joined("a", "ea", 1, "latest", "c"), message("a", 2), gap])
    await transport.send_data("alone")
    await transport.send_data(b"\x00")
    await transport.close(RESTART)
    assert len(server.bodies) == 5
    assert [event.get("more_body") for event in server.sent[-2:]] == [True, False]
    events = [event for body in server.bodies for event in Reader().feed(body)]
    assert [(event.name, event.id) for event in events] == [
        ("join", "ea:1,eb:1"),
        ("message", "ea:2,eb:1"),
        ("gap", "ea:2,eb:7"),
        ("message", ""),
        ("binary", ""),
        ("close", ""),
    ]


async def test_a_client_keeps_the_position_it_came_with_until_it_is_told_what_it_can_have() -> None:
    server = Server()
    transport = await opened(server, "a", "b", b=Position("gone", 7))
    gap = Gap("b", "eb", 1, 0, GapReason.EPOCH, before="gone")
    await transport.send([message("a", 2)])
    await transport.send([Joined("b", "eb", 0, "latest", "c"), gap])
    events = [event for body in server.bodies for event in Reader().feed(body)]
    assert [(event.name, event.id) for event in events] == [
        ("message", "ea:2,gone:7"),
        ("join", "ea:2,gone:7"),
        ("gap", "ea:2,eb:0"),
    ]
