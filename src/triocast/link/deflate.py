"""permessage-deflate (RFC 7692) on one WebSocket: what we agree to, and reading what the client compresses.

It never compresses: that is done once for all clients, by whoever writes the frames.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from hypercorn.protocol.ws_stream import Handshake
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

HEADER = b"sec-websocket-extensions"
NAME = b"permessage-deflate"
# One message serves all clients, so none may need what was sent before it; and we keep no window for what clients send.
ANSWER = NAME + b"; server_no_context_takeover; client_no_context_takeover"
# The parameters of an offer and the values that we can take. A window of our own below 15 bits would be one that the
# frames made for everybody else do not keep to.
ACCEPTABLE: Mapping[bytes, Iterable[bytes | None]] = {
    b"server_no_context_takeover": (None,),
    b"client_no_context_takeover": (None,),
    b"server_max_window_bits": (b"15",),
    b"client_max_window_bits": (None, *(b"%d" % bits for bits in range(8, 16))),
}
# Bytes of the client's that are inflated before others get a turn: they become half a MiB at most, in about a
# millisecond. Smaller pieces would make honest messages dear, at some 30 µs each.
INFLATE_PIECE = 512
FLUSHED = b"\x00\x00\xff\xff"  # left out at the end of every message

Offer: TypeAlias = tuple[bytes, list[tuple[bytes, bytes | None]]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rb'[ \t]*(%b)[ \t]*(?:=[ \t]*("?)(%b)\2[ \t]*)?' % (_TOKEN, _TOKEN))


def agree(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return what to answer a handshake's offers of extensions with, for the first that we can take; None for none."""
    values = b",".join(value for name, value in headers if name.lower() == HEADER)
    try:
        offers = list(_offers(values))
    except ValueError:  # from whoever offers what can't be read we take nothing
        return None
    return next((answer for offer in offers if (answer := _answer(*offer)) is not None), None)


def _offers(values: bytes) -> Iterator[Offer]:
    """Read a list of extensions (RFC 6455, 9.1). Raises `ValueError` for what is none.

    A quoted value is a token in quotes, so that no comma or semicolon stands within one.
    """
    for extension in filter(bytes.strip, values.split(b",")):
        (name, value), *parameters = map(_parameter, extension.split(b";"))
        if value is not None:
            raise ValueError(extension)
        yield name, parameters


def _parameter(text: bytes) -> tuple[bytes, bytes | None]:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match[1], match[3]


def _answer(name: bytes, parameters: list[tuple[bytes, bytes | None]]) -> bytes | None:
    named = dict(parameters)
    if name != NAME or len(named) < len(parameters):
        return None
    if not all(value in ACCEPTABLE.get(parameter, ()) for parameter, value in parameters):
        return None
    # Who asks for a window is told that it is kept to, even if it is the largest (RFC 7692, 7.1.2.1).
    return ANSWER + (b"; server_max_window_bits=15" if b"server_max_window_bits" in named else b"")


class DeflateHandshake(Handshake):
    """Hypercorn's handshake, answered with our extension; `limit` is for `Inflate`."""

    def __init__(self, asked: Handshake, answer: bytes, limit: int) -> None:
        vars(self).update(vars(asked))
        self._answer = answer
        self._limit = limit

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], Connection]:
        """Return status and headers of the answer, and the connection that it opens."""
        status, headers, _ = super().accept(subprotocol, additional_headers)
        return status, [*headers, (HEADER, self._answer)], Connection(ConnectionType.SERVER, [Inflate(self._limit)])


class Inflate(Extension):
    """Inflates what the client has compressed, at most `limit` bytes a message, and never a byte more than one beyond.

    What is larger is answered with 1009, what is no deflate with 1007. Between messages it holds nothing.
    """

    name = NAME.decode()

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._in_control = False
        self._inflater: Any = None  # of a compressed message that has begun

    def enabled(self) -> bool:
        """We have agreed already."""
        return True

    def offer(self) -> bool:
        """We are no client, and offer nothing."""
        return False

    def frame_inbound_header(
        self,
        proto: object,  # noqa: ARG002
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002
    ) -> CloseReason | RsvBits:
        """Begin a frame."""
        begins = opcode in (Opcode.TEXT, Opcode.BINARY)
        if rsv.rsv1 and not begins:
            return CloseReason.PROTOCOL_ERROR
        self._in_control = opcode.iscontrol()
        if begins:
            self._inflater = _inflater() if rsv.rsv1 else None
            self._room = self._limit
        return RsvBits(True, False, False)  # which of them are ours to judge

    def frame_inbound_payload_data(self, proto: object, data: bytes) -> bytes | CloseReason:  # noqa: ARG002
        """Return what a piece of a frame is once it is inflated."""
        return data if self._in_control or self._inflater is None else self._inflate(data)

    def frame_inbound_complete(self, proto: object, fin: bool) -> bytes | CloseReason | None:  # noqa: ARG002
        """Return what the end of a frame adds to it."""
        if not fin or self._in_control or self._inflater is None:
            return None
        data = self._inflate(FLUSHED)
        self._inflater = None
        return data

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflated = bytearray()
        while data:
            try:
                piece = self._inflater.decompress(data, self._room + 1)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(piece) > self._room:
                return CloseReason.MESSAGE_TOO_BIG
            self._room -= len(piece)
            inflated += piece
            data = self._inflater.unused_data
            if data:  # behind a block that says it is the last one, which need not be true (RFC 7692, 7.2.3.4)
                self._inflater = _inflater()
        return bytes(inflated)


def _inflater() -> Any:
    return zlib.decompressobj(-zlib.MAX_WBITS)
