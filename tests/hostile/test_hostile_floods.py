"""Floods: tens of megabytes are sent, next to nothing is held, and the flood is ended."""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from tests.hostile.attacker import KIB, MIB, Attacker, upgrade
from tests.hostile.bodies import CHUNKED
from tests.hostile.frames import CONTINUATION, closed, sent
from tests.hostile.heads import HEAD, POST, get, status
from tests.hostile.scene import HASTY, Scene, flat_memory, scene
from tests.link.harness import BINARY, PING, PONG, TEXT, close_frame, frame
from triocast import Settings

PIECE = bytes(MIB)
SMALL_BUFFER = 4 * KIB

HEADS = {
    "a line": (b"GET /", b"a" * MIB, status(431)),
    "a header": (HEAD + b"X: ", b"a" * MIB, status(431)),
    "headers": (HEAD, b"X: a\r\n" * 150_000, status(431)),
    "empty lines": (b"", b"\r\n" * 500_000, b""),
    "zeros": (b"", PIECE, b""),
    "a body that is too long": (POST + b"Content-Length: 99999999\r\n\r\n", PIECE, status(413)),
    "a body nobody asked for": (HEAD + b"Content-Length: 99999999\r\n\r\n", PIECE, status(200, 413)),
    "a chunk": (CHUNKED + b"fffffff\r\n", PIECE, status(413)),
    "chunks": (CHUNKED, b"fff0\r\n" + bytes(0xFFF0) + b"\r\n", status(413)),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * 10_000, status(408, 413)),
    "a chunk extension": (CHUNKED + b"1;", b"a" * MIB, status(400, 431)),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 100_000, status(400, 431)),
    "bytes behind a request that ends the connection": (get(b"/x").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), PIECE, status(400, 404)),
}  # fmt: skip


@asynccontextmanager
async def flooded(*, reads: bool = True, settings: Settings = HASTY) -> AsyncIterator[tuple[Scene, Attacker]]:
    """Give an attacker whose flood is over when the block is; the server has ended it, or does when it leaves."""
    async with scene(settings, send_buffer=SMALL_BUFFER) as now:
        with flat_memory():
            async with now.attacker(reads=reads) as attacker:
                yield now, attacker
            await now.alone()
        await now.aftermath()


@pytest.mark.parametrize("name", HEADS)
async def test_a_request_without_end(name: str) -> None:
    begin, piece, answer = HEADS[name]
    async with flooded() as (now, attacker):
        await attacker.send(begin)
        await attacker.pour(piece, 32 if len(piece) > 100_000 else 300)
        if answer:
            await attacker.until(answer)
        await now.alone()


ENDLESS = {
    "a frame": (frame(BINARY, announce=1 << 40), PIECE, closed(1009)),
    "a frame of the largest length": (frame(TEXT, announce=(1 << 63) - 1), PIECE, closed(1009)),
    "a message": (frame(BINARY, bytes(1_000), fin=False), frame(CONTINUATION, bytes(60_000), fin=False), closed(1009)),
    "messages that are too large": (b"", frame(BINARY, PIECE), closed(1009)),
    "a ping": (b"", b"\x89\xff" + (1 << 40).to_bytes(8) + bytes(MIB), closed(1002)),
    "zeros": (b"", PIECE, closed(1002)),
    "frames after a close": (close_frame(1000), frame(BINARY, bytes(60_000)), closed(1000)),
    "pings after a close": (close_frame(1001, "bye"), frame(PING, bytes(125)) * 1_000, closed(1001)),
    "bytes after a close": (close_frame(1000), b"\xff" * MIB, closed(1000)),
    "frames after a bad frame": (frame(3), frame(BINARY, bytes(60_000)), closed(1002)),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_websocket_floods(name: str) -> None:
    begin, piece, answer = ENDLESS[name]
    async with flooded() as (now, attacker):
        await attacker.upgrade()
        await attacker.send(begin)
        await attacker.pour(piece, 32)
        await attacker.until(answer)
        await now.alone()


@pytest.mark.parametrize(
    "piece",
    [frame(TEXT, b"a" * 60_000), frame(TEXT, b"a") * 5_000, frame(PING, bytes(125)) * 300],
    ids=["large frames", "small frames", "pings"],
)
async def test_a_flood_after_a_close_from_the_server(piece: bytes) -> None:
    async with flooded() as (now, attacker):
        await attacker.upgrade("/ws/listeners:only")
        await attacker.send(frame(TEXT, b"may I?"))
        await attacker.until(closed(1008))
        await attacker.pour(piece, 500)
        await now.alone()


async def test_pings_whose_pongs_are_not_read() -> None:
    async with flooded(reads=False) as (now, attacker):
        await _upgrade_blindly(now, attacker)
        piece = frame(PING, bytes(125)) * 100
        assert await attacker.pour(piece, 2_000) < 2_000 * len(piece)
        await now.alone()


async def test_messages_of_a_group_that_its_sender_does_not_read() -> None:
    async with flooded(reads=False) as (now, attacker):
        await _upgrade_blindly(now, attacker)
        piece = frame(BINARY, bytes(60_000))
        assert await attacker.pour(piece, 500) <= 500 * len(piece)
        await now.alone()


@pytest.mark.parametrize("request_", [get(b"/health/live"), POST + b"Content-Length: 1\r\n\r\nx"], ids=["GET", "POST"])
async def test_a_pipeline_whose_answers_are_not_read(request_: bytes) -> None:
    async with flooded(reads=False) as (now, attacker):
        assert await attacker.pour(request_ * 100, 1_000) < 100_000 * len(request_)
        await now.alone()


async def test_a_long_pipeline_is_served_in_order_and_ended() -> None:
    # It is served in turns with everybody else: on a busy machine it takes its time, which is not what ends it.
    patient = replace(HASTY, header_timeout=60, write_timeout=60, keep_alive=0.5)
    async with flooded(settings=patient) as (now, attacker):
        await attacker.send((get(b"/health/live") + get(b"/nothing")) * 100)
        await attacker.until(rb"HTTP/1\.1 200 .*?HTTP/1\.1 404 ", count=100)
        await now.alone()


CHEAP = {
    "empty fragments": (frame(TEXT, fin=False), frame(CONTINUATION, fin=False)),
    "pongs": (b"", frame(PONG, bytes(125))),
    "empty pings": (b"", frame(PING)),
    "empty messages": (b"", frame(TEXT)),
    "pings inside a message": (frame(TEXT, fin=False), frame(PING) + frame(CONTINUATION, fin=False)),
}


@pytest.mark.parametrize("name", CHEAP)
async def test_thousands_of_frames_that_say_nothing(name: str) -> None:
    begin, piece = CHEAP[name]
    async with flooded() as (_, attacker):
        await attacker.upgrade()
        await attacker.send(begin)
        await attacker.pour(piece * 100, 10)
        await attacker.send(frame(PING, b"end"))
        await attacker.until(sent(PONG, b"end"))


async def test_a_storm_of_connections() -> None:
    async with scene() as now:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for count in range(40):
                    nursery.start_soon(_come_and_go, now, count)
        await now.aftermath()


async def _come_and_go(now: Scene, count: int) -> None:
    async with now.attacker() as attacker:
        if count % 4:
            await attacker.send(upgrade()[: count * 10])


async def _upgrade_blindly(now: Scene, attacker: Attacker) -> None:
    await attacker.send(upgrade())
    with trio.fail_after(10):
        while now.served.hub.connections != 2:
            await trio.sleep(0.001)
