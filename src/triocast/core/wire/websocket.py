"""WebSocket frames as a server sends them (RFC 6455, 5.2): final, unmasked, so that one serves every client."""

from __future__ import annotations

TEXT, BINARY = 0x81, 0x82  # with FIN: we never fragment


def data_frame(payload: str | bytes) -> bytes:
    """Return the frame that carries a payload."""
    return frame(*opened(payload))


def opened(payload: str | bytes) -> tuple[int, bytes]:
    """Return the first byte of the frame that carries a payload, and the payload as bytes."""
    return (TEXT, payload.encode()) if isinstance(payload, str) else (BINARY, payload)


def frame(first: int, data: bytes) -> bytes:
    """Return the frame of `data` whose first byte is `first`."""
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2) + data
    return bytes((first, 127)) + size.to_bytes(8) + data
