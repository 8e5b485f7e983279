"""Frames that no WebSocket client may send, and some that look like it: what is sent, and what must be answered.

All of them come behind a sound handshake, for a group that takes what clients send.
"""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

import struct

from tests.hostile.attacker import KIB, Case
from tests.link.harness import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame

CONTINUATION = 0
HEART = "♥".encode()


def closed(*codes: int) -> bytes:
    """Return the pattern of a Close frame with one of these codes at the end of the answer."""
    wanted = b"|".join(b"".join(rb"\x%02x" % byte for byte in struct.pack("!H", code)) for code in codes)
    return rb"\x88.(" + wanted + rb")[^\x00-\x1f]*\Z"


def sent(opcode: int, payload: bytes) -> bytes:
    """Return the pattern of a frame from the server."""
    return b"".join(rb"\x%02x" % byte for byte in bytes([0x80 | opcode, len(payload)]) + payload)


def with_header(first: int, second: int, rest: bytes = b"") -> bytes:
    """Return a frame whose first two bytes are these."""
    return bytes([first, second]) + rest


MASK = bytes(4)
PROTOCOL = closed(1002)
SOUND = sent(PONG, b"end")  # to the ping that follows
END = frame(PING, b"end")

FRAMES = {
    "unmasked": Case(with_header(0x81, 0x01, b"a"), PROTOCOL),
    "an unmasked ping": Case(with_header(0x89, 0x00), PROTOCOL),
    "an unmasked close": Case(with_header(0x88, 0x00), PROTOCOL),
    "reserved bit 1": Case(with_header(0xC1, 0x81, MASK + b"a"), PROTOCOL),
    "reserved bit 2": Case(with_header(0xA1, 0x81, MASK + b"a"), PROTOCOL),
    "reserved bit 3": Case(with_header(0x91, 0x81, MASK + b"a"), PROTOCOL),
    "all reserved bits of a ping": Case(with_header(0xF9, 0x80, MASK), PROTOCOL),
    **{f"opcode {code}": Case(frame(code, b"a"), PROTOCOL) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a fragmented ping": Case(frame(PING, fin=False), PROTOCOL),
    "a fragmented pong": Case(frame(PONG, fin=False), PROTOCOL),
    "a fragmented close": Case(frame(CLOSE, fin=False), PROTOCOL),
    "a long ping": Case(frame(PING, bytes(126)), PROTOCOL),
    "a long pong": Case(frame(PONG, bytes(126)), PROTOCOL),
    "a ping of 2^63": Case(with_header(0x89, 0xFF, struct.pack("!Q", 1 << 63) + MASK), PROTOCOL),
    "a ping with a longer length than it needs": Case(with_header(0x89, 0xFE, b"\x00\x01" + MASK + b"a"), PROTOCOL),
    "a text with a longer length than it needs": Case(with_header(0x81, 0xFF, struct.pack("!Q", 1) + MASK + b"a"), closed(1002, 1009)),
    "a continuation of nothing": Case(frame(CONTINUATION, b"a"), PROTOCOL),
    "an open continuation of nothing": Case(frame(CONTINUATION, b"a", fin=False), PROTOCOL),
    "a text inside a text": Case(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), PROTOCOL),
    "a binary inside a text": Case(frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), PROTOCOL),
    "a continuation after the end": Case(frame(TEXT, b"a") + frame(CONTINUATION, b"b"), PROTOCOL),
    "a text of 2^63": Case(frame(TEXT, announce=1 << 63), closed(1002, 1009)),
    "a binary of 2^64 - 1": Case(frame(BINARY, announce=(1 << 64) - 1), closed(1002, 1009)),
    "a text of 2^62": Case(frame(TEXT, b"abc", announce=1 << 62), closed(1009)),
    "one byte too many": Case(frame(BINARY, bytes(64 * KIB + 1)), closed(1009)),
    "one byte too many in two": Case(frame(TEXT, b"a" * 64 * KIB, fin=False) + frame(CONTINUATION, b"b"), closed(1009)),
    "fragments that are too many together": Case(frame(BINARY, bytes(1_000), fin=False) + frame(CONTINUATION, bytes(1_000), fin=False) * 70, closed(1009)),
    "text that is no UTF-8": Case(frame(TEXT, b"\xff"), closed(1007)),
    "text that is cut off": Case(frame(TEXT, HEART[:2]), closed(1007)),
    "text with a surrogate": Case(frame(TEXT, b"\xed\xa0\x80"), closed(1007)),
    "text that is too wide": Case(frame(TEXT, b"\xc0\xaf"), closed(1007)),
    "text beyond Unicode": Case(frame(TEXT, b"\xf4\x90\x80\x80"), closed(1007)),
    "text broken across fragments": Case(frame(TEXT, HEART[:1], fin=False) + frame(CONTINUATION, b"a"), closed(1007)),
    "text cut off by the last fragment": Case(frame(TEXT, HEART[:2], fin=False) + frame(CONTINUATION), closed(1007)),
    "text that goes wrong before its end": Case(frame(TEXT, b"\xff", fin=False), closed(1007)),
    "a close of one byte": Case(frame(CLOSE, b"a"), PROTOCOL),
    "a close of 126 bytes": Case(frame(CLOSE, b"\x03\xe8" + bytes(124)), PROTOCOL),
    **{f"a close with code {code}": Case(close_frame(code), PROTOCOL) for code in (0, 999, 1004, 1005, 1006, 1015)},
    **{f"a close with code {code}": Case(close_frame(code), closed(1002, code)) for code in (1016, 1100, 2999, 5000, 65535)},
    "a close whose reason is no UTF-8": Case(frame(CLOSE, b"\x03\xe8\xff"), closed(1002, 1007)),
    "a close whose reason is cut off": Case(frame(CLOSE, b"\x03\xe8" + HEART[:2]), closed(1002, 1007)),
    "a close of 2^63": Case(frame(CLOSE, announce=1 << 63), PROTOCOL),
    "a close inside a text": Case(frame(TEXT, b"a", fin=False) + close_frame(1000), closed(1000)),
    "two closes": Case(close_frame(1000) + close_frame(1001), closed(1000)),
    "a close and frames behind": Case(close_frame(1000) + frame(TEXT, b"late") * 100, closed(1000)),
    "a close and bad frames behind": Case(close_frame(1000) + b"\xff" * 1_000, closed(1000)),
    "an HTTP request": Case(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", PROTOCOL),
    "zeros": Case(bytes(1_000), PROTOCOL),
    "ones": Case(b"\xff" * 1_000, PROTOCOL),
    "half a frame": Case(END + frame(TEXT, b"whole")[:-1], SOUND, stays=True),
    "half a header": Case(END + b"\x81", SOUND, stays=True),
    "half a length": Case(END + b"\x82\xff\x00\x00\x00", SOUND, stays=True),
    "half a message": Case(frame(TEXT, b"a", fin=False) + END, SOUND, stays=True),
    "pings inside a text": Case(frame(TEXT, b"a", fin=False) + frame(PING, b"b") * 50 + frame(CONTINUATION, b"c") + END, SOUND, stays=True),
    "pongs nobody asked for": Case(frame(PONG, b"unasked") * 100 + END, SOUND, stays=True),
    "empty messages": Case((frame(TEXT) + frame(BINARY)) * 50 + END, SOUND, stays=True),
    "text split within its characters": Case(frame(TEXT, HEART[:1], fin=False) + frame(CONTINUATION, HEART[1:2], fin=False) + frame(CONTINUATION, HEART[2:]) + END, SOUND, stays=True),
    "a byte at a time": Case(tuple(bytes([byte]) for byte in frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + END), SOUND, stays=True),
    "text of NULs": Case(frame(TEXT, bytes(1_000)) + END, SOUND, stays=True),
}  # fmt: skip

BEHIND = {
    "a bad frame": Case(b"\xff\xff\xff\xff", rb"\AHTTP/1\.1 101 .*" + PROTOCOL),
    "a good frame": Case(frame(TEXT, b"at once"), rb"\AHTTP/1\.1 101 .*" + sent(TEXT, b"at once"), stays=True),
    "a close and a frame": Case(close_frame(1000) + frame(TEXT, b"late"), rb"\AHTTP/1\.1 101 .*" + closed(1000)),
    "half a frame": Case(frame(TEXT, b"whole")[:3], rb"\AHTTP/1\.1 101 ", stays=True),
    "an endless frame": Case(frame(TEXT, bytes(70_000), announce=1 << 40), rb"\AHTTP/1\.1 101 .*" + closed(1009)),
    "many frames": Case(frame(TEXT, b"a") * 2_000, rb"\AHTTP/1\.1 101 ", stays=True),
}
"""What comes in the packet of the upgrade request itself."""
