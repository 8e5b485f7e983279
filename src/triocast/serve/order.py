"""What a worker is told by its supervisor: a line of JSON on its standard input, open as long as the supervisor lives.

It holds secrets, which is why it is no argument and no variable: those can be read by others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from triocast.settings import Settings

READY = b"ready\n"
"""What a worker says on its report once it accepts connections."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket: its descriptor, and its address as settings spell it."""

    descriptor: int
    address: str


@dataclass(frozen=True, slots=True)
class Order:
    """Be worker `number` with these settings, on these sockets; `house` is the folder shared with the others, `socket`
    the worker's own in it, `report` the descriptor on which it says that it is ready."""

    settings: Settings
    number: int
    house: str
    socket: str
    listening: tuple[Inherited, ...]
    report: int


def encode_order(order: Order) -> bytes:
    """Return the order as a line."""
    return msgspec.json.encode(order, enc_hook=_plain) + b"\n"


def decode_order(line: bytes) -> Order:
    """Return the order that a line holds."""
    return msgspec.json.decode(line, type=Order)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"no way to send a {type(value).__name__}")
