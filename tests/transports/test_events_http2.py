"""Server-sent events over HTTP/2 and TLS, to a real HTTP/2 client, which may shut its flow-control window."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import h2.events
import h2.settings
import pytest
import trio
import trustme
from h2.errors import ErrorCodes

from tests.link.harness import Client
from tests.link.test_link_http2 import H2Client
from tests.served import Served, served
from tests.sse import PATIENCE, Event, Reader
from triocast import Settings

BIG = 40_000
QUIET = Settings(ping_interval=600, ping_timeout=600)


@dataclass
class Stream:
    """One stream of events over a connection of several."""

    client: H2Client
    number: int
    reader: Reader
    seen: int = 0

    def _take(self) -> list[Event]:
        body = self.client.body.get(self.number, b"")
        fresh, self.seen = body[self.seen :], len(body)
        return self.reader.feed(fresh)

    async def events(self, count: int) -> list[Event]:
        """Return the next events, which must be all there are by then."""
        events: list[Event] = []
        with trio.fail_after(PATIENCE):
            while len(events) < count:
                events += self._take()
                if len(events) < count:
                    assert await self.client.read()
        assert len(events) == count
        return events

    async def comment(self) -> None:
        before = self.reader.comments
        with trio.fail_after(PATIENCE):
            while self.reader.comments == before:
                assert await self.client.read()
                assert self._take() == []


@dataclass
class Scene:
    """What is served, and clients of it that speak HTTP/2."""

    app: Served
    clients: list[H2Client]

    async def client(self, window: int = 2**20) -> H2Client:
        """Connect a client whose streams have a window of so many bytes, which it does not open any further."""
        stream = await self.app.connect()
        assert isinstance(stream, trio.SSLStream)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        client = H2Client(Client(stream))
        sizes = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        client.h2.local_settings = h2.settings.Settings(client=True, initial_values=sizes)
        self.clients.append(client)
        await client.start()
        await client.open_window(2**24)  # the connection's: no stream waits for another
        return client

    async def listen(self, client: H2Client, target: str = "/sse/a", groups: int = 1) -> Stream:
        headers = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", target)]
        stream = Stream(client, await client.request(headers), Reader())
        answer = await client.until(h2.events.ResponseReceived, lambda event: event.stream_id == stream.number)
        assert dict(answer.headers)[":status"] == "200"
        assert "connection" not in dict(answer.headers)
        assert [event.name for event in await stream.events(groups)] == ["join"] * groups
        return stream

    async def publish(self, *messages: str, group: str = "a") -> None:
        for message in messages:
            await self.app.push.group(group).send(message)

    async def wait_listeners(self, count: int) -> None:
        with trio.fail_after(PATIENCE):
            while self.app.hub.connections != count:
                await trio.sleep(0.002)


@asynccontextmanager
async def scene(settings: Settings = QUIET) -> AsyncIterator[Scene]:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    for context in (tls, trust):
        context.set_alpn_protocols(["h2"])
    async with served(settings, tls=tls, trust=trust) as app:
        the_scene = Scene(app, [])
        try:
            yield the_scene
        finally:
            for client in the_scene.clients:
                client.client.socket.close()


async def test_streams_of_one_connection_each_get_their_events() -> None:
    async with scene() as world:
        client = await world.client()
        one, several = await world.listen(client), await world.listen(client, "/sse?group=a&group=b", 2)
        ways = {repr(each).split(" by ")[1].split(",")[0] for each in world.app.hub.roster}
        assert ways == {"portable events"}
        await world.publish("1", "x" * BIG)
        await world.publish("2", group="b")
        epochs = [(await world.app.push.group(group).info()).epoch for group in "ab"]
        assert [(event.data, event.id) for event in await one.events(2)] == [
            ("1", f"{epochs[0]}:1"),
            ("x" * BIG, f"{epochs[0]}:2"),
        ]
        events = await several.events(3)
        assert [event.data for event in events] == ["1", "x" * BIG, "2"]
        assert events[-1].id == f"{epochs[0]}:2,{epochs[1]}:1"


async def test_a_stream_that_its_client_resets_is_over_at_once_and_no_other() -> None:
    async with scene() as world:
        client = await world.client()
        one, other = await world.listen(client), await world.listen(client)
        client.h2.reset_stream(one.number, ErrorCodes.CANCEL)
        await client.flush()
        await world.wait_listeners(1)
        await world.publish("still here")
        assert [event.data for event in await other.events(1)] == ["still here"]
        client.client.reset()
        await world.wait_listeners(0)
        await world.app.wait_connections(0)
        assert world.app.hub.groups == 0


@pytest.mark.parametrize("target", ["/sse/a", "/sse?group=a&group=b"])
async def test_a_stream_whose_window_stays_shut_is_reset_and_harms_no_other(target: str) -> None:
    async with scene(replace(QUIET, write_timeout=0.4)) as world:
        shut, elsewhere = await world.client(window=2_000), await world.client()
        groups = target.count("group=") or 1
        stalled = await world.listen(shut, target, groups)
        witness, neighbour = await world.listen(elsewhere), await world.listen(elsewhere)
        await world.publish("x" * BIG)
        await world.publish("y" * BIG)
        for each in (witness, neighbour):
            assert [event.data[0] for event in await each.events(2)] == ["x", "y"]
        assert await shut.until_reset(stalled.number) == ErrorCodes.CANCEL
        await world.wait_listeners(2)
        # The connection lives, and another stream of it takes what fits its window.
        again = await world.listen(shut)
        await world.publish("short")
        for each in (again, witness, neighbour):
            assert [event.data for event in await each.events(1)] == ["short"]


async def test_a_window_that_opens_again_brings_all_that_was_kept() -> None:
    async with scene(replace(QUIET, write_timeout=600)) as world:
        client = await world.client(window=2_000)
        stream = await world.listen(client)
        await world.publish(*(str(number) + "x" * BIG for number in range(5)))
        await client.open_window(10 * BIG, stream.number)
        assert [event.data[0] for event in await stream.events(5)] == list("01234")


async def test_comments_come_between_events() -> None:
    async with scene(Settings(ping_interval=0.05)) as world:
        stream = await world.listen(await world.client())
        for number in range(3):
            await stream.comment()
            await world.publish(str(number))
            event = None
            while event is None:
                event = next(iter(stream._take()), None)
                assert event is not None or await stream.client.read()
            assert event.data == str(number)


async def test_a_server_that_stops_ends_streams_with_a_reason() -> None:
    async with scene() as world:
        client = await world.client()
        streams = [await world.listen(client), await world.listen(client)]
        await world.app.host.terminate()
        await world.app.hub.roster.drain()
        for stream in streams:
            (closed,) = await stream.events(1)
            assert (closed.name, json.loads(closed.data)["code"]) == ("close", 1012)
            await client.until(h2.events.StreamEnded, lambda event, number=stream.number: event.stream_id == number)
        await world.wait_listeners(0)
