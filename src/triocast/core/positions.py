"""Positions as text: `EPOCH:OFFSET`, and `0` for the oldest message that is kept.

It knows no group and looks nothing up.
"""

from __future__ import annotations

import re

from triocast.core.message import Position
from triocast.core.recovery import OLDEST
from triocast.errors import InvalidPosition

MAX_OFFSET = 2**63 - 1  # what every store and language can count to
MAX_EPOCH = 64  # characters; ours have 8

_EPOCH = re.compile(rf"[A-Za-z0-9._~-]{{1,{MAX_EPOCH}}}", re.ASCII)  # what a URL and a header take as it is
_OFFSET = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)  # one spelling each; more digits than MAX_OFFSET has are not read


def parse_position(text: str) -> Position:
    """Return the position that `EPOCH:OFFSET` names. Raises `InvalidPosition`, which says what is wrong with it."""
    epoch, colon, offset = text.partition(":")
    if not colon:
        raise _invalid(text, "it has no ':'")
    if not epoch:
        raise _invalid(text, "its epoch is empty, as that of a group without messages: begin at 0")
    if not _EPOCH.fullmatch(epoch):
        raise _invalid(text, f"an epoch has 1 to {MAX_EPOCH} ASCII letters, digits, '.', '_', '~' and '-'")
    if not _OFFSET.fullmatch(offset) or int(offset) > MAX_OFFSET:
        raise _invalid(text, f"an offset is a number from 0 to {MAX_OFFSET}, without sign or leading zeros")
    return Position(epoch, int(offset))


def parse_since(text: str) -> Position:
    """Return the position after which to begin: `0` is before the oldest message. Raises `InvalidPosition`."""
    return OLDEST if text == "0" else parse_position(text)


def is_expected(expected: Position, newest: Position) -> bool:
    """Whether a group whose newest message is at `newest` is where a publish expects it: there, or, for the position
    before everything, at the beginning of any epoch."""
    return expected == newest or (expected == OLDEST and newest.offset == 0)


def _invalid(text: str, fault: str) -> InvalidPosition:
    shown = ascii(text if len(text) <= 60 else f"{text[:57]}...")
    return InvalidPosition(f"{shown} is no position ({fault}): it is EPOCH:OFFSET as the server has told it")


def as_position(since: Position | str) -> Position:
    """Return a position that may have been given as its text. Raises `InvalidPosition`."""
    return parse_since(since) if isinstance(since, str) else since
