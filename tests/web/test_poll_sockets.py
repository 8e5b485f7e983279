"""Polls on real sockets: many at once, clients that read slowly or not at all, HTTP/2, and silence on the way."""

from __future__ import annotations

import json
import ssl
from contextlib import AsyncExitStack

import h2.events
import trio
import trustme

from tests.poll import PATIENCE, Answer, Poller, poller
from tests.served import Served, served
from tests.transports.test_events_http2 import scene
from triocast import Settings
from triocast.meters import Eviction

BIG = 4_000_000  # bytes, more than two kernels hold for a connection with small buffers


async def waiting(app: Served, group: str, count: int) -> None:
    """Wait until so many wait for a message of the group."""
    with trio.fail_after(PATIENCE):
        while [(each.name, each.subscribers) for each in app.hub.opened_groups()] != (
            [(group, count)] if count else []
        ):
            await trio.sleep(0.001)


async def left(app: Served, connections: int = 0) -> None:
    with trio.fail_after(PATIENCE):
        while app.hub.connections != connections:
            await trio.sleep(0.001)


async def test_a_thousand_who_wait_wake_on_one_publish() -> None:
    count = 1000
    async with served() as app, AsyncExitStack() as stack, trio.open_nursery() as nursery:
        clients = [await stack.enter_async_context(poller(app.port)) for _ in range(count)]
        answers: list[Answer] = []

        async def poll(client: Poller, target: str) -> None:
            answers.append(await client.poll(target))

        for client in clients:
            nursery.start_soon(poll, client, "/poll/a?wait=60")
        await waiting(app, "a", count)
        receipt = await app.publish("a", b"all of you")
        assert receipt["subscribers"] == count
        with trio.fail_after(PATIENCE):
            while len(answers) < count:
                await trio.sleep(0.001)
        assert {(answer.status, *answer.data) for answer in answers} == {(200, "all of you")}
        for client, answer in zip(clients, list(answers), strict=True):  # and again, on the same connections
            nursery.start_soon(poll, client, f"/poll/a?wait=60&since={answer.next}")
        await waiting(app, "a", count)
        await app.publish("a", b"again")
        with trio.fail_after(PATIENCE):
            while len(answers) < 2 * count:
                await trio.sleep(0.001)
        assert {(answer.status, *answer.data) for answer in answers[count:]} == {(200, "again")}
        await left(app)


async def test_a_slow_reader_of_an_answer_is_no_member_any_more_and_gets_all_of_it() -> None:
    async with served(Settings(max_message=BIG, write_timeout=600), send_buffer=8192) as app:
        async with poller(app.port, buffer=8192) as client:
            await client.ask("/poll/a?wait=60")
            await waiting(app, "a", 1)
            await app.push.group("a").send("x" * BIG)
            await waiting(app, "a", 0)
            assert app.hub.connections == 1  # and counts among those who are connected
            receipt = await app.push.group("a").send("y")
            assert (receipt.subscribers, receipt.behind) == (0, 0)
            answer = await client.answer()
            assert [len(data) for data in answer.data if isinstance(data, str)] == [BIG]
            assert (await client.poll(f"/poll/a?since={answer.next}")).data == ["y"]


async def test_who_reads_nothing_of_an_answer_is_cut_off_in_time() -> None:
    async with served(Settings(max_message=BIG, write_timeout=0.2), send_buffer=8192) as app:
        async with poller(app.port, buffer=8192) as client:
            await client.ask("/poll/a?wait=60")
            await waiting(app, "a", 1)
            await app.push.group("a").send("x" * BIG)
            await app.wait_connections(0)
            await left(app)
            assert app.hub.meters.evicted[Eviction.WRITE_TIMEOUT] == 1


async def test_an_answer_that_is_being_read_when_the_server_stops_is_finished() -> None:
    async with served(Settings(max_message=BIG, write_timeout=600, close_timeout=600), send_buffer=8192) as app:
        async with poller(app.port, buffer=8192) as client:
            await client.ask("/poll/a?wait=60")
            await waiting(app, "a", 1)
            await app.push.group("a").send("x" * BIG)
            await waiting(app, "a", 0)
            await app.hub.roster.drain()
            assert len(str((await client.answer()).data[0])) == BIG


async def test_a_server_that_stops_waits_for_the_reader_of_an_answer_only_so_long() -> None:
    async with served(Settings(max_message=BIG, write_timeout=600, close_timeout=0.1), send_buffer=8192) as app:
        async with poller(app.port, buffer=8192) as client:
            await client.ask("/poll/a?wait=60")
            await waiting(app, "a", 1)
            await app.push.group("a").send("x" * BIG)
            await waiting(app, "a", 0)
            await app.hub.roster.drain()
            await app.wait_connections(0)
            await left(app)


async def test_no_timer_of_the_link_ends_a_wait() -> None:
    hasty = Settings(keep_alive=0.05, header_timeout=0.05, ping_interval=0.02, ping_timeout=0.02, body_timeout=0.05)
    async with served(hasty) as app, poller(app.port) as client:
        await client.ask("/poll/a?wait=0.5")  # as long as ten of them
        assert (await client.answer()).data == []


async def test_over_http_2_several_polls_share_a_connection_and_each_may_be_given_up() -> None:
    async with scene() as stage:
        client = await stage.client()
        headers = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]
        one, two, three = [await client.request([*headers, (":path", f"/poll/a?wait=60&x={x}")]) for x in range(3)]
        await waiting(stage.app, "a", 3)
        client.h2.reset_stream(two)
        await client.flush()
        await waiting(stage.app, "a", 2)
        await stage.publish("hello")
        for number in (one, three):
            said = json.loads(await client.until_end(number))
            assert [each["data"] for each in said["messages"]] == ["hello"]
            answer = await client.until(h2.events.ResponseReceived, lambda event, n=number: event.stream_id == n)
            assert "connection" not in dict(answer.headers)
        await left(stage.app)


async def test_over_tls_as_without() -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with served(tls=tls, trust=trust) as app:
        client = Poller(await app.connect())
        await client.ask("/poll/a?wait=60")
        await waiting(app, "a", 1)
        await app.push.group("a").send("x")
        assert (await client.answer()).data == ["x"]
        assert (await client.poll("/poll/a?wait=0")).data == []
        await client.ask("/poll/a?wait=60")
        await waiting(app, "a", 1)
        await trio.aclose_forcefully(client.stream)
        await app.wait_connections(0)
        await left(app)
