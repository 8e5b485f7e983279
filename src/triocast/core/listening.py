"""What a client asks for when it comes: whichever way it comes, and whoever asks for it.

Whether it may have that is for others to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.message import Position
from triocast.core.positions import as_position
from triocast.core.recovery import wishes_of
from triocast.core.wire import FORMATS, FormatName


@dataclass(frozen=True, slots=True)
class Listening:
    """The groups, in the order in which the client named them; where it begins; how it is written to; who it is.

    A `strict` client is closed instead of missing anything. One with `presence` is told who comes to its groups and
    who goes.
    """

    groups: Sequence[str]
    since: Mapping[str, Position] = field(default_factory=lambda: MappingProxyType({}))
    last: int | None = None
    format: FormatName = "raw"
    strict: bool = False
    presence: bool = False
    identity: Identity = ANONYMOUS


def listening_of(  # noqa: PLR0913 - what applications leave out
    groups: Sequence[str],
    since: Mapping[str, Position | str] | None,
    last: int | None,
    form: FormatName,
    identity: Identity,
    *,
    strict: bool,
    presence: bool,
) -> Listening:
    """Return what an application asks for. Raises `ValueError` for what can't be meant, and `InvalidPosition`."""
    if form not in FORMATS:
        raise ValueError(f"no such format: {form!r}; there are {', '.join(FORMATS)}")
    positions = {name: as_position(each) for name, each in (since or {}).items()}
    wishes_of(groups, positions, last)
    return Listening(list(dict.fromkeys(groups)), positions, last, form, strict, presence, identity)
