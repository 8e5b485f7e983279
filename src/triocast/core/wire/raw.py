"""The raw format: a frame is the payload and nothing else, text and json as text, binary as binary.

It has no room for gaps.
"""

from __future__ import annotations

from triocast.core.message import Kind, Message


def payload(message: Message) -> str | bytes:
    """Return what a raw client is given: `str` for a text frame, `bytes` for a binary one."""
    return message.data if message.kind is Kind.BINARY else message.data.decode()
