"""What clients compress, for the tests of permessage-deflate on the link."""

from __future__ import annotations

import zlib

from tests.link.harness import Client, Served, frame, settings

KIB = 1024
MIB = 1024 * KIB
CONTINUATION, RSV1, RSV2 = 0, 0x40, 0x20
ON = settings(compression=True, max_message=10 * KIB)
AGREED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
BITS_15 = AGREED + b"; server_max_window_bits=15"
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def deflated(data: bytes, level: int = 6) -> bytes:
    """Return what a client makes of a message."""
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def zeros(mebibytes: int) -> bytes:
    """Return a message of that many MiB, in a thousandth of them."""
    compressor = zlib.compressobj(9, wbits=-15)
    one = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return one * mebibytes


def compressed_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return the first frame of a message that is compressed."""
    first, *rest = frame(opcode, payload, fin=fin)
    return bytes([first | RSV1, *rest])


async def agreed(served: Served) -> Client:
    client = await served.connect()
    assert b"\r\nsec-websocket-extensions: " + AGREED + b"\r\n" in (await client.upgrade(OFFER)).lower()
    return client
