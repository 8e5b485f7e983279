"""The raw format: a frame is the payload and nothing else, text and json as text, binary as binary.

It has no room for gaps, nor for what stands in the place of a message.
"""

from __future__ import annotations

from triocast.core.message import Kind, Message
from triocast.core.wire.format import Format, Told


def payload(told: Told) -> str | bytes | None:
    """Return what a raw client is given: `str` for a text frame, `bytes` for a binary one, None for all else."""
    if not isinstance(told, Message):
        return None
    return told.data if told.kind is Kind.BINARY else told.data.decode()


RAW = Format("raw", payload)
