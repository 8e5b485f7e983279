"""The raw format: a frame is the payload and nothing else, text and json as text, binary as binary.

It has no room for gaps.
"""

from __future__ import annotations

from triocast.core.log import Entry
from triocast.core.message import Gap, Kind
from triocast.core.wire.format import Format


def payload(entry: Entry) -> str | bytes | None:
    """Return what a raw client is given: `str` for a text frame, `bytes` for a binary one, None for a gap."""
    if isinstance(entry, Gap):
        return None
    return entry.data if entry.kind is Kind.BINARY else entry.data.decode()


RAW = Format("raw", payload)
