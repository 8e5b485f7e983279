"""How messages are written for clients: formats without I/O, each encoding made once per message and shared by all."""

from collections.abc import Mapping
from typing import Literal

from triocast.core.wire.deflate import compressed as compressed
from triocast.core.wire.format import Delivered as Delivered
from triocast.core.wire.format import Format as Format
from triocast.core.wire.format import Joined as Joined
from triocast.core.wire.format import Left as Left
from triocast.core.wire.format import Presence as Presence
from triocast.core.wire.format import Told as Told
from triocast.core.wire.json import JSON as JSON
from triocast.core.wire.raw import RAW as RAW

FormatName = Literal["raw", "json"]
FORMATS: Mapping[str, Format] = {form.name: form for form in (RAW, JSON)}
"""The formats that a client can ask for, by name; the first is the default."""
