"""Reads what is urlencoded, a query or a form, into pairs of bytes; it knows nothing of what they mean."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

BLOCK = 64 * 1024  # bytes decoded at once: the standard library makes an object of some 40 bytes for every escape


def fields(encoded: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields in their order, empty ones included, each decoded once."""
    pairs = (part.partition(b"=") for part in encoded.split(b"&") if part)
    return [(decode(name), decode(value)) for name, _, value in pairs]


def values(encoded: bytes, name: str) -> list[bytes]:
    """Return the values of the fields called `name`."""
    wanted = name.encode()
    return [value for key, value in fields(encoded) if key == wanted]


def texts(encoded: bytes, name: str) -> list[str]:
    """Return the values of the fields called `name` as text; what is no UTF-8 in them becomes U+FFFD."""
    return [value.decode(errors="replace") for value in values(encoded, name)]


def all_texts(encoded: bytes) -> dict[str, list[str]]:
    """Return the values of all fields by name, as `texts` does."""
    found: dict[str, list[str]] = {}
    for name, value in fields(encoded):
        found.setdefault(name.decode(errors="replace"), []).append(value.decode(errors="replace"))
    return found


def decode(encoded: bytes) -> bytes:
    """Return one name or value decoded; a percent sign that begins no escape stands for itself."""
    plain = encoded.replace(b"+", b" ")
    decoded = bytearray()
    start = 0
    while start < len(plain):
        escape = plain.find(b"%", start + BLOCK - 2, start + BLOCK)  # one that the block's end would cut
        end = start + BLOCK if escape < 0 else escape
        decoded += unquote_to_bytes(plain[start:end])
        start = end
    return bytes(decoded)
