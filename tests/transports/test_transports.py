"""The suite that every way out passes: what clients get, whoever writes it and over whatever connection."""

from __future__ import annotations

import random
from base64 import b64encode
from dataclasses import replace

import pytest
import trio

from tests.link.harness import close_frame, frame
from tests.transports.stage import PATIENCE, TINY, Contexts, Peer, Stage, Way, stage
from tests.transports.strict import BINARY, CLOSE, PONG, TEXT, Frame
from triocast import Settings

KIB = 1024
SIZES = (1, 125, 126, 127, 65_535, 65_536)
"""Around the places where the length of a frame is written otherwise."""

# More than two kernels hold for a client with small buffers, in few messages.
BIG = 64 * KIB
PATIENT = Settings(write_timeout=600)
NOISE = b64encode(random.Random(0).randbytes(8 * BIG)).decode()
"""What compression makes only a quarter smaller, so that it fills a socket either way."""


def numbered(name: str, number: int, size: int = 0) -> str:
    """Return a text that says which of whose messages it is, filled up to `size`."""
    text = f"{name} {number} "
    return text + NOISE[: max(0, size - len(text))]


def number_of(payload: bytes) -> int:
    return int(payload.split(b" ", 2)[1])


async def test_every_client_gets_every_message_once_and_all_in_one_order(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts) as served:
        peers = [await served.connect("a") for _ in range(8)]
        seen: list[list[bytes]] = []

        async def publish(name: str) -> None:
            await served.publish("a", *(numbered(name, index) for index in range(60)))

        async def take(peer: Peer) -> None:
            seen.append(await peer.messages(180))

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(take, peer)
            for name in ("x", "y", "z"):
                nursery.start_soon(publish, name)
        assert all(one == seen[0] for one in seen)
        for name in (b"x", b"y", b"z"):
            assert [number_of(each) for each in seen[0] if each.startswith(name)] == list(range(60))
        for peer in peers:
            await served.publish("a", "last")
            assert await peer.message() == b"last"
            await peer.stream.aclose()
        await served.wait_left()


async def test_text_json_binary_and_nothing_at_all_come_as_they_were_sent(way: Way, contexts: Contexts) -> None:
    sent: list[tuple[object, Frame]] = [
        ("", Frame(TEXT, b"")),
        (b"", Frame(BINARY, b"")),
        ("é ♥", Frame(TEXT, "é ♥".encode())),
        (b"\x00\xff\x88", Frame(BINARY, b"\x00\xff\x88")),
        ({"a": [1, None]}, Frame(TEXT, b'{"a":[1,null]}')),
    ]
    for size in SIZES:
        sent += [("x" * size, Frame(TEXT, b"x" * size)), (b"\x81" * size, Frame(BINARY, b"\x81" * size))]
    async with stage(way, contexts) as served:
        peer = await served.connect("a")
        for value, expected in sent:
            await served.publish("a", value)
            assert await peer.data() == expected
        for value, expected in sent:
            if isinstance(value, str | bytes):
                await peer.connection.send(value)
                assert await peer.data() == expected


async def test_the_largest_messages_come_whole_also_to_who_reads_little_at_a_time(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT) as served:
        fast, slow = await served.connect("a"), await served.connect("a", buffer=TINY)
        slow.bite = 10_007
        messages = [bytes([index]) * KIB * KIB for index in range(3)]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.publish, "a", *messages)
            for peer in (fast, slow):
                nursery.start_soon(_expect, peer, messages)


async def _expect(peer: Peer, messages: list[bytes]) -> None:
    for message in messages:
        assert await peer.message() == message


async def test_the_groups_of_one_connection_each_keep_their_order_and_none_starves(
    way: Way, contexts: Contexts
) -> None:
    groups = ("a", "b", "c")
    async with stage(way, contexts) as served:
        peer = await served.connect(*groups)
        async with trio.open_nursery() as nursery:
            for group in groups:
                nursery.start_soon(served.publish, group, *(numbered(group, index, 5_000) for index in range(50)))
            got = await peer.messages(150)
        for group in groups:
            own = [number_of(each) for each in got if each.startswith(group.encode())]
            assert own == list(range(50))


async def test_what_is_for_one_client_alone_comes_in_its_order_between_the_messages_of_groups(
    way: Way, contexts: Contexts
) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as served:
        peer, other = await served.connect("a", buffer=TINY), await served.connect("a", buffer=TINY)

        async def send() -> None:
            for index in range(50):
                await peer.connection.send(numbered("own", index, 3_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(served.publish, "a", *(numbered("all", index, 3_000) for index in range(50)))
            got = await peer.messages(100)
            assert [number_of(each) for each in await other.messages(50)] == list(range(50))
        for name in (b"own", b"all"):
            assert [number_of(each) for each in got if each.startswith(name)] == list(range(50))


async def test_sending_to_a_client_that_does_not_read_waits_until_it_does(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as served:
        peer = await served.connect(buffer=TINY)
        sent = trio.Event()

        async def send() -> None:
            for index in range(3):
                await peer.connection.send(numbered("own", index, 8 * BIG))
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert number_of(await peer.message()) == 0
            assert not sent.is_set()
            assert number_of(await peer.message()) == 1
            # The last comes whole with nothing behind it to push it out.
            assert number_of(await peer.message()) == 2
            await sent.wait()


async def test_a_close_has_its_code_and_reason_and_comes_after_what_was_sent(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, send_buffer=TINY) as served:
        peer = await served.connect("a", buffer=TINY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_and_close, peer)
            assert await peer.message() == b"x" * BIG
            closed = await peer.data()
        assert (closed.opcode, closed.code, closed.reason) == (CLOSE, 4001, "é: enough")
        await peer.send_bytes(close_frame(4001))
        assert await peer.to_the_end() == []
        await served.wait_left()


async def _send_and_close(peer: Peer) -> None:
    await peer.connection.send("x" * BIG)
    await peer.connection.close(4001, "é: enough")


async def test_the_close_of_a_client_is_answered_with_its_code_and_then_the_end(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts) as served:
        peer = await served.connect("a")
        await peer.send_bytes(close_frame(4321, "bye"))
        (closed,) = await peer.to_the_end()
        assert (closed.opcode, closed.code) == (CLOSE, 4321)
        peer.leave()
        await served.wait_left()
        assert served.push.hub.groups == 0


async def test_clients_that_leave_at_any_moment_and_in_any_manner_leave_nothing_behind(
    way: Way, contexts: Contexts
) -> None:
    async with stage(way, contexts, send_buffer=TINY) as served:
        witness = await served.connect("a")
        over = trio.Event()

        async def publish() -> None:
            index = 0
            while not over.is_set():
                await served.publish("a", numbered("all", index, index * 97 % 9_000))
                index += 1
                assert number_of(await witness.message()) == index - 1

        async def come_and_go(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(8):
                await _visit(served, rng)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            async with trio.open_nursery() as visitors:
                for seed in range(5):
                    visitors.start_soon(come_and_go, seed)
            over.set()
        await served.wait_left(1)
        assert (await served.push.group("a").info()).subscribers == 1
        await served.publish("a", "last")
        assert await witness.message() == b"last"


async def _visit(served: Stage, rng: random.Random) -> None:
    """Come, take a few messages, and go somehow."""
    peer = await served.connect("a", buffer=rng.choice([None, TINY]))
    await peer.messages(rng.randrange(4))
    match rng.randrange(5):
        case 0:
            await peer.send_bytes(close_frame(1000))
            await peer.to_the_end()
        case 1:
            await peer.send_bytes(frame(TEXT, b"half")[: rng.randrange(1, 9)])
            peer.leave()
        case 2:
            peer.reset()
        case 3:
            peer.leave()
        case 4:
            peer.connection.abort()
            await peer.to_the_end()
    peer.leave()


async def test_a_client_that_stops_reading_is_reset_after_write_timeout(way: Way, contexts: Contexts) -> None:
    settings = Settings(write_timeout=0.3)
    async with stage(way, contexts, settings, send_buffer=TINY) as served:
        stalled, witness = await served.connect("a", buffer=TINY), await served.connect("a", buffer=TINY)
        behind = 0
        for index in range(5):
            receipt = await served.push.group("a").send(numbered("all", index, BIG))
            behind = max(behind, receipt.behind)
            assert number_of(await witness.message()) == index
        assert behind >= 1  # the witness may be in the middle of it as well
        await served.wait_left(1)
        assert stalled.connection.ended
        with pytest.raises(ConnectionResetError), trio.fail_after(PATIENCE):
            while await stalled.socket.recv(BIG):  # what the kernel had taken may still come
                pass
        await served.publish("a", "last")
        assert await witness.message() == b"last"


async def test_pings_are_answered_in_order_while_data_flows(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as served:
        peer = await served.connect("a", buffer=TINY)
        pings = [b"ping %d" % index for index in range(40)]

        async def ping() -> None:
            for payload in pings:
                await peer.ping(payload)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            nursery.start_soon(served.publish, "a", *(numbered("all", index, 9_000) for index in range(60)))
            got = await peer.messages(60)
        while len(peer.pongs) < len(pings):
            pong = await peer.frame()
            assert pong.opcode == PONG
            peer.pongs.append(pong.payload)
        assert peer.pongs == pings
        assert [number_of(each) for each in got] == list(range(60))


async def test_a_client_that_lags_too_far_gets_the_newest_that_it_may_lag_by(way: Way, contexts: Contexts) -> None:
    settings = replace(PATIENT, max_lag=8)
    async with stage(way, contexts, settings, send_buffer=TINY) as served:
        slow, fast = await served.connect("a", buffer=TINY), await served.connect("a", buffer=TINY)
        for index in range(60):
            await served.publish("a", numbered("all", index, BIG))
            assert number_of(await fast.message()) == index
        got = [number_of(await slow.message())]
        while got[-1] != 59:
            got.append(number_of(await slow.message()))
        assert got == sorted(set(got))
        assert got[-8:] == list(range(52, 60))
        assert got[0] == 0
        assert len(got) < 30
        await served.publish("a", "now")
        assert await slow.message() == b"now"


async def test_a_client_that_stalls_within_its_lag_and_goes_on_misses_nothing(way: Way, contexts: Contexts) -> None:
    async with stage(way, contexts, PATIENT, send_buffer=TINY) as served:
        slow = await served.connect("a", buffer=TINY)
        for round_ in range(3):
            for index in range(20):
                await served.publish("a", numbered("all", index, 16 * KIB))
            # Nothing is published while it reads: the last bytes of the last message have to come by themselves.
            assert [number_of(each) for each in await slow.messages(20)] == list(range(20)), round_
            await _wait_caught_up(served)
        await served.publish("a", "now")
        assert await slow.message() == b"now"


async def _wait_caught_up(served: Stage) -> None:
    with trio.fail_after(PATIENCE):
        while (await served.push.group("a").info()).behind:
            await trio.sleep(0.001)
