"""A wire format: what a client is given for a message or a gap, as a payload and as a whole WebSocket frame."""

from __future__ import annotations

from collections.abc import Callable

from triocast.core.log import Entry
from triocast.core.message import Message
from triocast.core.wire.websocket import data_frame

Payload = str | bytes


class Format:
    """One way to write entries. `encode` gives the payload of an entry, None for what the format cannot say.

    Formats are compared by identity: there is one object of each, and all its subscribers share its encodings.
    """

    def __init__(self, name: str, encode: Callable[[Entry], Payload | None]) -> None:
        self.name = name
        self._encode = encode

    def __repr__(self) -> str:
        return f"<Format {self.name}>"

    def payload(self, entry: Entry) -> Payload | None:
        """Return the payload, `str` for a text frame and `bytes` for a binary one."""
        return entry.encoded(self._encode) if isinstance(entry, Message) else self._encode(entry)

    def frame(self, entry: Entry) -> bytes:
        """Return the whole frame a server sends, empty for what the format cannot say."""
        return entry.encoded(self._frame) if isinstance(entry, Message) else self._frame(entry)

    def _frame(self, entry: Entry) -> bytes:
        # From the encoder, not from `payload`: whoever wants frames should not keep payloads as well.
        payload = self._encode(entry)
        return b"" if payload is None else data_frame(payload)
