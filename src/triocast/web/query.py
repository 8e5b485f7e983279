"""Reads what is urlencoded, a query or a form, into pairs of bytes; it knows nothing of what they mean."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


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


def decode(encoded: bytes) -> bytes:
    """Return one name or value decoded; a percent sign that begins no escape stands for itself."""
    return unquote_to_bytes(encoded.replace(b"+", b" "))
