"""HTTP/2, over TLS as it has to be, by clients that know what hurts."""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from hpack import Encoder

from tests.hostile.attacker import KIB, Attacker, tcp
from tests.hostile.scene import Contexts, Scene, flat_memory, hasty, scene

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Fields = Sequence[tuple[str, str]]
GET = ((":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/health/live"))
POST = ((":method", "POST"), *GET[1:3], (":path", "/publish/target"))


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def block(fields: Fields) -> bytes:
    """Return fields without reference to a table, so that blocks go together in any order."""
    data: bytes = Encoder().encode([(name, value, True) for name, value in fields], huffman=False)
    return data


def ask(stream: int = 1, fields: Fields = GET, *, end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


def changed(*fields: tuple[str, str], without: str = "") -> Fields:
    names = {name for name, _ in fields} | {without}
    return (*fields, *(field for field in GET if field[0] not in names))


GREETING = PREFACE + frame(SETTINGS)
BOMB = block((("x", "y" * 4_000),)).replace(
    b"\x10", b"\x40", 1
)  # kept in the table, and named by index 62 from then on

ABUSES = {
    "no preface": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a preface": PREFACE[:10],
    "a preface and nothing": PREFACE,
    "a preface and garbage": PREFACE + b"\xff" * 1_000,
    "a greeting and nothing": GREETING,
    "a frame before the settings": PREFACE + frame(PING, 0, 0, bytes(8)),
    "settings of a wrong length": PREFACE + frame(SETTINGS, 0, 0, bytes(5)),
    "settings on a stream": PREFACE + frame(SETTINGS, 0, 1),
    "an acknowledgement with content": GREETING + frame(SETTINGS, ACK, 0, bytes(6)),
    "a window larger than any": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 1 << 31)),
    "a frame size of nothing": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 5, 0)),
    "a table of 4 GiB": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 1, 0xFFFFFFFF)) + ask(),
    "settings nobody knows": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 0xFFFF, 1) * 100) + ask(),
    "a ping of a wrong length": GREETING + frame(PING, 0, 0, bytes(7)),
    "a ping on a stream": GREETING + frame(PING, 0, 1, bytes(8)),
    "a frame that is too large": GREETING + frame(PING, 0, 0, bytes(17_000)),
    "a frame that announces 16 MiB": GREETING + b"\xff\xff\xff" + bytes([DATA, 0]) + bytes(4),
    "frames of no known kind": GREETING + frame(0xEE, 0xFF, 1, bytes(100)) * 100 + ask(),
    "a request on stream 0": GREETING + ask(0),
    "a request on an even stream": GREETING + ask(2),
    "requests backwards": GREETING + ask(5) + ask(3),
    "a request twice": GREETING + ask() + ask(),
    "data on stream 0": GREETING + frame(DATA, 0, 0, b"x"),
    "data on an idle stream": GREETING + frame(DATA, 0, 1, b"x"),
    "data after the end": GREETING + ask() + frame(DATA, 0, 1, b"x") * 20,
    "data after the response": GREETING + ask(1, GET, end=False) + frame(DATA, 0, 1, b"x") * 20,
    "data beyond the window": GREETING + ask(1, POST, end=False) + frame(DATA, 0, 1, bytes(16_000)) * 10,
    "padding longer than its frame": GREETING + ask(1, POST, end=False) + frame(DATA, PADDED, 1, b"\xffx"),
    "a length that lies": GREETING + ask(1, (*POST, ("content-length", "5")), end=False) + frame(DATA, END_STREAM, 1, b"x"),
    "a length of 2^80": GREETING + ask(1, (*POST, ("content-length", str(1 << 80))), end=False),
    "a length in words": GREETING + ask(1, (*POST, ("content-length", "five")), end=False),
    "a body that does not come": GREETING + ask(1, POST, end=False),
    "half a body": GREETING + ask(1, POST, end=False) + frame(DATA, 0, 1, b"x"),
    "headers without end": GREETING + frame(HEADERS, 0, 1, block(GET)),
    "headers broken by another frame": GREETING + frame(HEADERS, 0, 1, block(GET)) + frame(PING, 0, 0, bytes(8)),
    "a continuation of nothing": GREETING + frame(CONTINUATION, END_HEADERS, 1, block(GET)),
    "a continuation of another stream": GREETING + frame(HEADERS, 0, 1, block(GET)) + frame(CONTINUATION, END_HEADERS, 3),
    "a block that is none": GREETING + frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),
    "a block of table sizes": GREETING + frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f" * 100),
    "an integer without end": GREETING + frame(HEADERS, END_HEADERS, 1, b"\x7f" + b"\xff" * 5_000),
    "a bomb": GREETING + frame(HEADERS, END_HEADERS | END_STREAM, 1, BOMB + b"\xbe" * 12_000),
    "headers of more than is allowed": GREETING + frame(HEADERS, END_STREAM, 1, block(GET)) + frame(CONTINUATION, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 1, block((("x", "y" * 16_000),))),
    "no path": GREETING + ask(1, changed(without=":path")),
    "no method": GREETING + ask(1, changed(without=":method")),
    "no scheme": GREETING + ask(1, changed(without=":scheme")),
    "no authority": GREETING + ask(1, changed(without=":authority")),
    "an empty path": GREETING + ask(1, changed((":path", ""))),
    "a path in bytes": GREETING + ask(1, changed((":path", "/\xff"))),
    "a path of an asterisk": GREETING + ask(1, changed((":path", "*"))),
    "a path that is an address": GREETING + ask(1, changed((":path", "https://[::1/"))),
    "a path with line ends": GREETING + ask(1, changed((":path", "/ws/a\r\nX: y"))),
    "a method in bytes": GREETING + ask(1, changed((":method", "G\xffT"))),
    "a host in bytes": GREETING + ask(1, changed((":authority", "\xff"))),
    "a scheme of its own": GREETING + ask(1, changed((":scheme", "\xff\x00"))),
    "two methods": GREETING + ask(1, (*GET, (":method", "POST"))),
    "two authorities": GREETING + ask(1, (*GET, ("host", "elsewhere"))),
    "a pseudo header too late": GREETING + ask(1, (("x", "y"), *GET)),
    "a pseudo header of its own": GREETING + ask(1, (*GET[:1], (":own", "x"), *GET[1:])),
    "a name in capitals": GREETING + ask(1, (*GET, ("X-Own", "y"))),
    "a name in bytes": GREETING + ask(1, (*GET, ("\xff", "y"))),
    "no name": GREETING + ask(1, (*GET, ("", "y"))),
    "a name of a line end": GREETING + ask(1, (*GET, ("a\r\nb", "y"))),
    "a value of line ends": GREETING + ask(1, (*GET, ("x", "a\r\n\x00b"))),
    "a value in bytes": GREETING + ask(1, (*GET, ("x", "\xff\xfe"))),
    "an upgrade": GREETING + ask(1, (*GET, ("connection", "upgrade"), ("upgrade", "websocket"))),
    "chunks": GREETING + ask(1, (*POST, ("transfer-encoding", "chunked")), end=False),
    "te of gzip": GREETING + ask(1, (*GET, ("te", "gzip"))),
    "CONNECT": GREETING + ask(1, ((":method", "CONNECT"), (":authority", "localhost:1"))),
    "a websocket": GREETING + ask(1, (*changed((":method", "CONNECT"), (":protocol", "websocket"), (":path", "/ws/a")), ("sec-websocket-version", "13")), end=False),
    "trailers without end": GREETING + ask(1, POST, end=False) + ask(1, (("x", "y"),), end=False),
    "trailers of pseudo headers": GREETING + ask(1, POST, end=False) + ask(1, GET),
    "a promise": GREETING + frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack("!I", 2) + block(GET)),
    "a priority of itself": GREETING + frame(PRIORITY, 0, 1, struct.pack("!IB", 1, 0)) + ask(),
    "a request that depends on itself": GREETING + frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, struct.pack("!IB", 1, 0) + block(GET)),
    "priorities in a ring": GREETING + frame(PRIORITY, 0, 3, struct.pack("!IB", 5, 0)) + frame(PRIORITY, 0, 5, struct.pack("!IB", 3, 0)) + ask(),
    "a window update of nothing": GREETING + ask(1, POST, end=False) + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
    "window updates beyond any window": GREETING + frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 0x7FFFFFFF)) * 2,
    "a window update on an idle stream": GREETING + frame(WINDOW_UPDATE, 0, 7, struct.pack("!I", 1)),
    "a reset of an idle stream": GREETING + frame(RST_STREAM, 0, 1, bytes(4)),
    "a reset of stream 0": GREETING + frame(RST_STREAM, 0, 0, bytes(4)),
    "a goodbye": GREETING + ask() + frame(GOAWAY, 0, 0, bytes(8)),
    "a goodbye and requests behind": GREETING + frame(GOAWAY, 0, 0, bytes(8)) + ask() + ask(3),
    "a window that never opens": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 0)) + ask(),
    "a hundred windows that never open": PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 0)) + b"".join(ask(n) for n in range(1, 200, 2)),
}  # fmt: skip


@asynccontextmanager
async def speaking(now: Scene, *, reads: bool = True) -> AsyncIterator[Attacker]:
    """Connect an attacker that has agreed on HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    plain = await tcp(now.served.port, None if reads else 4 * KIB)
    async with plain:
        stream = trio.SSLStream(plain, context, https_compatible=True)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        attacker = Attacker(stream)
        with trio.CancelScope() as scope:
            if reads:
                now.nursery.start_soon(attacker.read_on)
            yield attacker
            scope.cancel()
    assert b"Traceback" not in attacker.received


@pytest.mark.parametrize("name", ABUSES)
async def test_an_abuse_ends_or_serves_its_connection_alone(name: str, contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        async with speaking(now) as attacker:
            await attacker.send(ABUSES[name])
            await attacker.until_end()
        await now.aftermath()


FLOODS = {
    "settings": (frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 65_535)) * 100, 60),
    "pings": (frame(PING, 0, 0, bytes(8)) * 100, 100),
    "priorities": (b"".join(frame(PRIORITY, 0, 2 * n + 1, struct.pack("!IB", 0, 9)) for n in range(100)), 50),
    "empty data": (frame(DATA, 0, 1) * 100, 100),
    "data": (frame(DATA, 0, 1, bytes(16_000)), 1_000),
    "padding": (frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 50, 100),
    "window updates": (frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", 1)) * 100, 100),
    "frames of no known kind": (frame(0xEE, 0, 0, bytes(16_000)), 1_000),
    "resets": (frame(RST_STREAM, 0, 1, bytes(4)) * 100, 50),
}


@pytest.mark.parametrize(
    ("name", "reads"),
    [*[(name, True) for name in FLOODS], *[(name, False) for name in ("settings", "pings", "empty data")]],
)
async def test_a_flood_of_frames(name: str, reads: bool, contexts: Contexts) -> None:
    piece, times = FLOODS[name]
    async with scene(tls=contexts, send_buffer=4 * KIB) as now:
        async with speaking(now, reads=reads) as attacker:
            with flat_memory():
                await attacker.send(GREETING + ask(1, POST, end=False))
                await attacker.pour(piece, times)
                await now.alone()
        await now.aftermath()


async def test_continuations_without_end(contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        async with speaking(now) as attacker:
            with flat_memory():
                await attacker.send(GREETING + frame(HEADERS, 0, 1, block(GET)))
                await attacker.pour(frame(CONTINUATION, 0, 1, block((("x", "y" * 10_000),))), 2_000)
                await now.alone()
        await now.aftermath()


@pytest.mark.parametrize("fields", [GET, POST], ids=["GET", "POST"])
async def test_streams_reset_as_soon_as_they_are_opened(fields: Fields, contexts: Contexts) -> None:
    async with scene(tls=contexts) as now:
        async with speaking(now) as attacker:
            with flat_memory():
                await attacker.send(GREETING)
                for n in range(1, 500, 2):
                    await attacker.send(ask(n, fields, end=False) + frame(RST_STREAM, 0, n, struct.pack("!I", 8)))
                await now.alone()
        await now.aftermath()


async def test_requests_whose_answers_are_not_read(contexts: Contexts) -> None:
    async with scene(hasty(keep_alive=5.0), tls=contexts, send_buffer=4 * KIB) as now:
        async with speaking(now, reads=False) as attacker:
            with flat_memory():
                await attacker.send(GREETING)
                for n in range(1, 4_000, 2):
                    if not await attacker.send(ask(n, GET)):
                        break
                await now.alone()
        await now.aftermath()
