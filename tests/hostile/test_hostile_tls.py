"""A port that speaks TLS, and clients that do not, or not for long."""

from __future__ import annotations

import pytest
import trio

from tests.hostile.attacker import KIB, MIB, Case, tcp, upgrade
from tests.hostile.frames import closed
from tests.hostile.heads import ACCESS, CLIENT_HELLO, HEAD, HEADERS, NO_REQUESTS, OK, UPGRADES, get
from tests.hostile.scene import Contexts, flat_memory, scene
from tests.link.harness import BINARY, frame

PLAIN = {
    "nothing": b"",
    "HTTP": get(b"/health/live"),
    "a publish": b"POST /publish/target HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
    "an upgrade": upgrade(),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "half a hello": CLIENT_HELLO[:40],
    "a hello cut off inside": CLIENT_HELLO,
    "a hello of SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "records of nothing": b"\x16\x03\x01\x00\x00" * 10_000,
    "application data at once": b"\x17\x03\x03\x00\x05hello",
    "heartbleed": b"\x18\x03\x02\x00\x03\x01\x40\x00",
}


@pytest.mark.parametrize("name", PLAIN)
async def test_what_is_no_tls(name: str, contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        await now.run(Case(PLAIN[name], b""), raw=True)


MIDWAY = {
    "plain text": get(b"/health/live"),
    "ones": b"\xff" * 1_000,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a record that decrypts to nothing": b"\x17\x03\x03\x00\x20" + bytes(32),
    "another hello": CLIENT_HELLO,
}


@pytest.mark.parametrize("name", MIDWAY)
@pytest.mark.parametrize("begin", [b"", HEAD, upgrade()], ids=["at once", "in a head", "in a websocket"])
async def test_garbage_in_the_middle_of_a_connection(begin: bytes, name: str, contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        plain = await tcp(now.served.port)
        async with plain:
            stream = trio.SSLStream(plain, contexts[1], server_hostname="localhost", https_compatible=True)
            await stream.do_handshake()
            if begin:
                await stream.send_all(begin)
            await plain.send_all(MIDWAY[name])
            await now.alone()
        await now.aftermath()


async def test_a_client_that_goes_without_saying_so(contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        for begin in (b"", HEAD, get(b"/health/live"), upgrade()):
            plain = await tcp(now.served.port)
            async with plain:
                stream = trio.SSLStream(plain, contexts[1], server_hostname="localhost", https_compatible=True)
                await stream.do_handshake()
                if begin:
                    await stream.send_all(begin)
            await now.aftermath()


SAMPLES = {
    "no request": NO_REQUESTS["a Redis command"],
    "prior knowledge": NO_REQUESTS["prior knowledge"],
    "a protocol in bytes": UPGRADES["a protocol in bytes"],
    "a host in bytes": HEADERS["a host in bytes"],
    "half a head": Case(HEAD, b""),
    "nothing": Case(b"", b""),
    "an origin of null": ACCESS["an origin of null"],
    "a request and nothing more": Case(get(b"/health/live"), OK),
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_what_is_ended_in_plain_text_is_ended_in_tls(name: str, contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        await now.run(SAMPLES[name])


async def test_a_frame_without_end_in_tls(contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        with flat_memory():
            async with now.attacker() as attacker:
                await attacker.upgrade()
                await attacker.send(frame(BINARY, announce=1 << 40))
                await attacker.pour(bytes(MIB), 32)
                await attacker.until(closed(1009))
                await now.alone()
        await now.aftermath()


async def test_a_client_in_tls_that_reads_nothing(contexts: Contexts) -> None:
    async with scene(tls=contexts, send_buffer=4 * KIB) as now:
        with flat_memory():
            plain = await tcp(now.served.port, 4 * KIB)
            async with plain:
                stream = trio.SSLStream(plain, contexts[1], server_hostname="localhost", https_compatible=True)
                await stream.do_handshake()
                await stream.send_all(upgrade())
                try:
                    for _ in range(300):
                        await stream.send_all(frame(BINARY, bytes(60_000)))
                except trio.BrokenResourceError:
                    pass
                await now.alone()
        await now.aftermath()
