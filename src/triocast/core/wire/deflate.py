"""Compressed frames (permessage-deflate, RFC 7692): made once of each message, for all clients that understand them.

It never keeps a compressor: what needs nothing of the messages before it can be read by everybody.
"""

from __future__ import annotations

import zlib
from functools import cache

from triocast.core.message import Shared
from triocast.core.wire.format import Format, Payload, Told
from triocast.core.wire.websocket import frame, opened

RSV1 = 0x40
LEVEL = 1  # about 10 ms a MiB of JSON; level 6 takes twice that to save a tenth more
# Bytes of payload. What can be saved on less is little beside the headers of the packet that carries it.
LEAST = 128
# Bytes of payload. More would hold up the event loop, and with it every client, for longer than a round may.
MOST = 256 * 1024
FLUSHED = 4  # bytes (00 00 FF FF) with which every flush ends, and which are left out


class Compressed(Format):
    """A format whose frames are compressed where that makes them smaller, with encodings and a lane of its own."""

    def __init__(self, plain: Format) -> None:
        super().__init__(plain.name, plain.encode, greets=plain.greets)
        self._plain = plain

    def __repr__(self) -> str:
        return f"<Format {self.name}, compressed>"

    def frame(self, told: Told) -> bytes:
        """Return the whole frame a server sends. Only of what is for all: gaps are for one client each."""
        return told.encoded(self._frame) if isinstance(told, Shared) else self._plain.frame(told)

    def _frame(self, told: Told) -> bytes:
        payload = self.encode(told)
        deflated = None if payload is None else deflated_frame(payload)
        return self._plain.frame(told) if deflated is None else deflated


@cache  # one object a format, so that all its clients share what it makes
def compressed(form: Format) -> Format:
    """Return `form` for clients that understand compressed frames."""
    return Compressed(form)


def deflated_frame(payload: Payload) -> bytes | None:
    """Return the compressed frame of a payload, None where a plain one serves better."""
    first, data = opened(payload)
    if not LEAST <= len(data) <= MOST:
        return None
    compressor = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    deflated = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-FLUSHED]
    return frame(first | RSV1, deflated) if len(deflated) < len(data) else None
