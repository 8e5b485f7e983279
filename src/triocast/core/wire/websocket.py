"""WebSocket frames as a server sends them (RFC 6455, 5.2): final, unmasked, so that one serves every client."""

from __future__ import annotations

TEXT, BINARY = 0x81, 0x82  # with FIN: we never fragment


def data_frame(payload: str | bytes) -> bytes:
    """Return the frame that carries a payload."""
    opcode, data = (TEXT, payload.encode()) if isinstance(payload, str) else (BINARY, payload)
    size = len(data)
    if size < 126:
        return bytes((opcode, size)) + data
    if size < 65_536:
        return bytes((opcode, 126)) + size.to_bytes(2) + data
    return bytes((opcode, 127)) + size.to_bytes(8) + data
