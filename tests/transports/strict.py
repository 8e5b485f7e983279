"""A strict reader of what a server may send on a WebSocket (RFC 6455, RFC 7692), one byte of tolerance: none.

It shares nothing with the code under test, and never answers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40
FLUSHED = b"\x00\x00\xff\xff"
BLOCK = b"\x01\x01\x00\xfe\xffx"  # deflate: a last block, stored, of one byte
KNOWN = {TEXT, BINARY, CLOSE, PING, PONG}
# Which codes may stand in a Close frame (RFC 6455, 7.4): the registered ones, and those of libraries and applications.
SENDABLE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame."""

    opcode: int
    payload: bytes
    deflated: bool = field(default=False, compare=False)
    """Whether it came compressed; `payload` is what it says."""

    @property
    def code(self) -> int:
        """The code of a Close frame, 1005 for none."""
        return int.from_bytes(self.payload[:2]) if self.payload else 1005

    @property
    def reason(self) -> str:
        """The reason of a Close frame."""
        return self.payload[2:].decode()


class Strict:
    """Takes bytes as they come and gives frames; raises `AssertionError` for what no server may send.

    Triocast never fragments, so a frame without FIN is refused as well. With `deflate`, data may come compressed, each
    message by itself, if that makes it smaller.
    """

    def __init__(self, *, deflate: bool = False) -> None:
        self._reserved = 0x30 if deflate else 0x70
        self.closed: Frame | None = None
        self._data = bytearray()

    @property
    def halfway(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes; return the frames that they complete."""
        assert not data or self.closed is None, f"{len(data)} bytes after the Close frame: {data[:40]!r}"
        self._data += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        size = self._head_size()
        if size is None or len(self._data) < size:
            return None
        end = size + self._payload_size(size)
        if len(self._data) < end:
            return None
        first, payload = self._data[0], bytes(self._data[size:end])
        del self._data[:end]
        frame = Frame(first & 0x0F, inflate(payload) if first & RSV1 else payload, bool(first & RSV1))
        self._check_payload(frame)
        return frame

    def _head_size(self) -> int | None:
        """Look at the first two bytes as soon as they are there; return how many the head has."""
        if self._data:
            first = self._data[0]
            assert first & 0x80, f"a frame without FIN: {first:#x}"
            assert not first & self._reserved, f"reserved bits: {first:#x}"
            assert not first & RSV1 or first & 0x0F in (TEXT, BINARY), f"a control frame compressed: {first:#x}"
            assert first & 0x0F in KNOWN, f"an opcode nobody knows, or a continuation: {first:#x}"
        if len(self._data) < 2:
            return None
        second = self._data[1]
        assert not second & 0x80, "a server masks nothing"
        assert second <= 125 or not self._data[0] & 0x08, "a control frame of more than 125 bytes"
        return {126: 4, 127: 10}.get(second, 2)

    def _payload_size(self, head: int) -> int:
        size = self._data[1] if head == 2 else int.from_bytes(self._data[2:head])
        assert size >= {2: 0, 4: 126, 10: 65_536}[head], f"{size} bytes need no head of {head}"
        assert size < 1 << 63, "a length with its highest bit set"
        return size

    def _check_payload(self, frame: Frame) -> None:
        if frame.opcode == TEXT:
            frame.payload.decode()
        if frame.opcode == CLOSE:
            assert len(frame.payload) != 1, "half a close code"
            assert not frame.payload or frame.code in SENDABLE, f"no code to send: {frame.code}"
            assert frame.reason is not None
            assert not self._data, f"{len(self._data)} bytes after the Close frame: {bytes(self._data[:40])!r}"
            self.closed = frame


def inflate(payload: bytes) -> bytes:
    """Return what a compressed message says, which needs nothing but itself to be read."""
    assert payload[-4:] != FLUSHED, "the end that is to be left out"
    inflater = zlib.decompressobj(wbits=-15)
    said = inflater.decompress(payload + FLUSHED)
    assert not inflater.eof, "a block that is marked as the last, which not every client reads on from"
    assert inflater.decompress(BLOCK) == b"x", "not at the beginning of a block, where the end should have brought it"
    assert len(payload) < len(said), "compressed for nothing"
    return said
