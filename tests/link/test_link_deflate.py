"""permessage-deflate on the link: what a client compresses is read, within bounds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.link.deflating import CONTINUATION, KIB, MIB, ON, RSV1, RSV2, agreed, compressed_frame, deflated, zeros
from tests.link.harness import BINARY, CLOSE, PING, PONG, TEXT, Application, close_frame, frame, serve, settings
from tests.link.test_link_messages import pour
from tests.memory import flat_memory


async def test_what_the_client_compresses_is_understood_and_the_handlers_own_frames_go_as_they_are() -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        for opcode, data in ((TEXT, "grüße ".encode() * 500), (BINARY, bytes(range(256)) * 30), (TEXT, b"")):
            await client.send(compressed_frame(opcode, deflated(data)))
            assert await client.frame() == (opcode, data)
            await client.send(frame(opcode, data))
            assert await client.frame() == (opcode, data)


# From RFC 7692, 7.2.3: the same word in the ways that there are to write it.
HELLOS = {
    "one block": b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    "stored": b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    "a block that is marked as the last": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    "two blocks": b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    "two that are marked": b"\x01\x02\x00\xfd\xffHe\x01\x03\x00\xfc\xffllo\x00",
}


@pytest.mark.parametrize("data", HELLOS.values(), ids=HELLOS.keys())
@pytest.mark.parametrize("cut", [None, 1, 3])
async def test_every_way_to_write_a_message_is_read(data: bytes, cut: int | None) -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        if cut is None:
            await client.send(compressed_frame(TEXT, data))
        else:
            await client.send(compressed_frame(TEXT, data[:cut], fin=False) + frame(PING, b"between"))
            await client.send(frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, data[cut:]))
            assert await client.frame() == (PONG, b"between")
        assert await client.frame() == (TEXT, b"Hello")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (compressed_frame(TEXT, b"\xff\xff"), 1007),
        (compressed_frame(TEXT, deflated(b"\xff")), 1007),
        (compressed_frame(TEXT, b"\xf2\x00\x11\x00\x00"), 1007),  # what needs an earlier message to be read
        (compressed_frame(PING, b"x"), 1002),
        (compressed_frame(CLOSE, b"\x03\xe8"), 1002),
        (frame(TEXT, b"x", fin=False) + compressed_frame(CONTINUATION, deflated(b"x")), 1002),
        (compressed_frame(TEXT, b"\xf2", fin=False) + compressed_frame(TEXT, deflated(b"x")), 1002),
        (bytes([0x81 | RSV2, 0x80]) + bytes(4), 1002),
    ],
)
async def test_what_is_not_as_agreed_ends_the_connection_with_the_code_for_it(data: bytes, code: int) -> None:
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(data)
        assert (await client.close())[0] == code
        await client.rest()
        await served.wait_empty()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_exactly_the_limit_is_delivered_though_compression_makes_it_larger(opcode: int) -> None:
    noise = random.Random(1).randbytes(10 * KIB)
    data = noise.hex().encode()[: 10 * KIB] if opcode == TEXT else noise
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        sent = deflated(data, level=0)
        assert len(sent) > 10 * KIB
        await client.send(compressed_frame(opcode, sent))
        assert await client.frame() == (opcode, data)


async def test_what_could_not_be_within_the_limit_is_refused_before_a_byte_of_it() -> None:
    first, *rest = frame(BINARY, announce=10 * KIB * 5 // 4 + 65)
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(bytes([first | RSV1, *rest]))
        assert (await client.close())[0] == 1009


@pytest.mark.parametrize("level", [0, 9])
async def test_one_byte_more_is_refused_with_a_reason_that_names_the_limit(level: int) -> None:
    app = Application()
    async with serve(app, ON) as served:
        client = await agreed(served)
        await client.send(compressed_frame(TEXT, deflated(b"x" * (10 * KIB + 1), level)) + close_frame(1000))
        assert await client.close() == (1009, "a message may have at most 10240 bytes (max_message)")
        assert (await app.wait_event("websocket.disconnect"))["code"] == 1009
        assert await client.eof() == b""


async def test_fragments_are_counted_together_once_they_are_inflated() -> None:
    data = deflated(b"x" * (10 * KIB + 1))
    async with serve(Application(), ON) as served:
        client = await agreed(served)
        await client.send(compressed_frame(TEXT, data[:4], fin=False))
        for byte in data[4:-1]:
            await client.send(frame(CONTINUATION, bytes([byte]), fin=False))
        await client.send(frame(CONTINUATION, data[-1:]))
        assert (await client.close())[0] == 1009


@pytest.mark.parametrize(("limit", "mebibytes"), [(10 * KIB, 8), (MIB, 1024)])
async def test_a_thousand_times_the_limit_is_refused_without_being_inflated(limit: int, mebibytes: int) -> None:
    app = Application()
    bomb = compressed_frame(BINARY, zeros(mebibytes))
    async with serve(app, settings(compression=True, max_message=limit)) as served:
        client, other = await agreed(served), await agreed(served)
        with flat_memory(3 * MIB + 5 * limit):  # the message's own bytes, as zlib gives them and as wsproto copies them
            await pour(client, bomb, 1)
            assert (await client.close())[0] == 1009
        await other.send(compressed_frame(TEXT, deflated(b"still here")))
        assert await other.frame() == (TEXT, b"still here")
        assert [event for event in app.events if event.get("bytes")] == []


async def test_a_large_message_is_inflated_in_pieces() -> None:
    class Taking(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            self.size = len((await receive())["bytes"])

    app = Taking()
    async with serve(app, settings(compression=True, max_message=16 * MIB)) as served:
        client = await agreed(served)
        message = compressed_frame(BINARY, zeros(6))
        assert len(message) < 7 * KIB  # one read
        with flat_memory(17 * MIB):  # inflated in one go, it took 20 for a moment
            await client.send(message)
            await app.wait_ended()
        assert app.size == 6 * MIB
