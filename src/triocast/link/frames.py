"""Measures the messages of a WebSocket client by their frame headers alone, and notices its Close frame.

It never unmasks, decodes or keeps a payload: what is too large is known before it has come.
"""

from __future__ import annotations

FIN = 0x80
RSV1 = 0x40  # of the first frame of a compressed message
OPCODE = 0x0F
LENGTH = 0x7F
CONTINUATION, CLOSE, FIRST_CONTROL = 0x0, 0x8, 0x8
MASK_BYTES = 4
# Bytes of an extended length, by the short length that announces them (RFC 6455, 5.2).
EXTENDED = {126: 2, 127: 8}


class FrameMeter:
    """Follows the frames of one client; `limit` is in bytes of payload, which for text is its UTF-8.

    A compressed message may be a little larger on its way than it is; how large it is, whoever inflates it must see.
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._bound = limit
        self._header = bytearray()
        self._payload_left = 0
        self._in_close = False
        self._message = 0
        self.close_seen = False
        self.compressed = False
        """Whether some of what was fed last may be of a compressed message."""

    def feed(self, data: bytes) -> int | None:
        """Follow `data`, and return where in it begins the first frame that makes its message larger than the limit.

        Returns None when everything fits, 0 when the header began before `data`. Goes on after what is too large.
        """
        self.compressed = self._bound > self._limit  # the message that was begun before
        too_large: int | None = None
        position = 0
        while position < len(data):
            if self._payload_left:
                position += self._skip(len(data) - position)
                continue
            start = position
            position = self._read_header(data, position)
            if self._measure() and too_large is None:
                too_large = start
        return too_large

    def _skip(self, available: int) -> int:
        skipped = min(self._payload_left, available)
        self._payload_left -= skipped
        self._after_payload()
        return skipped

    def _after_payload(self) -> None:
        if self._in_close and not self._payload_left:
            self.close_seen = True

    def _read_header(self, data: bytes, position: int) -> int:
        """Take bytes until the header is whole or `data` ends; returns the new position."""
        while position < len(data) and len(self._header) < (wanted := self._header_size()):
            taken = data[position : position + wanted - len(self._header)]
            self._header += taken
            position += len(taken)
        return position

    def _header_size(self) -> int:
        if len(self._header) < 2:
            return 2
        return 2 + EXTENDED.get(self._header[1] & LENGTH, 0) + MASK_BYTES

    def _measure(self) -> bool:
        """Begin the frame whose header is whole; returns whether its message is now too large."""
        if len(self._header) < 2 or len(self._header) < self._header_size():
            return False
        header, self._header = self._header, bytearray()
        opcode, short = header[0] & OPCODE, header[1] & LENGTH
        extended = EXTENDED.get(short, 0)
        length = int.from_bytes(header[2 : 2 + extended]) if extended else short
        self._payload_left = length
        self._in_close = opcode == CLOSE
        self._after_payload()
        if opcode >= FIRST_CONTROL:
            return False
        if opcode != CONTINUATION:
            self._begin_message(compressed=bool(header[0] & RSV1))
        size = self._message + length
        self._message = 0 if header[0] & FIN else size
        return size > self._bound

    def _begin_message(self, *, compressed: bool) -> None:
        self._message = 0
        self._bound = self._limit + (_overhead(self._limit) if compressed else 0)
        self.compressed = self.compressed or compressed


def _overhead(size: int) -> int:
    """Return how many bytes compression may add to `size` that can't be compressed: zlib's own bound, and flushes."""
    return size // 4 + 64
