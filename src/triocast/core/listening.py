"""What a client asks for when it comes: whichever way it comes, and whoever asks for it.

It checks nothing; whoever makes one has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.message import Position
from triocast.core.wire import FormatName


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
