"""Who comes and goes, in words for a person at a terminal.

It prints nothing, and keeps no list of who is there: `triocast.client.Members` does that.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from triocast.client import Departure, Member, Presence

MAX_NAMES = 10_000  # members whose names are remembered until they leave; beyond, the earliest are called by their ids
MAX_NAME = 40  # characters that are shown: a line stays a line


class People:
    """Words what is told of members. `named` is whether lines name their group, as is needed with several."""

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._names: dict[str, str] = {}

    def lines(self, presence: Presence) -> Iterator[str]:
        """Give a line for each who came, went or moved."""
        group = f" {presence.group}" if self._named else ""
        for member in presence.joined:
            yield f"→ {self._meet(member)} joined{group}"
        for move in presence.moved:
            self._names.pop(move.was, None)
            at = f" in{group}" if group else ""
            yield f"· {self._meet(move.member)} has a new connection{at}"
        for departure in presence.left:
            if departure.reason == "moved":  # as its new connection it is told of already
                self._names.pop(departure.client, None)
                continue
            yield f"← {self._names.pop(departure.client, departure.client)} left{group}{_why(departure)}"

    def _meet(self, member: Member) -> str:
        if len(self._names) >= MAX_NAMES:
            del self._names[next(iter(self._names))]
        name = self._names[member.client] = name_of(member)
        return name


def name_of(member: Member) -> str:
    """Return what to call a member: its user or the name in its info, in quotes if only it says so, else its id."""
    if member.user is not None:
        return _shown(member.user)
    try:
        info = member.info
    except (msgspec.DecodeError, RecursionError):
        info = None
    name = info.get("name") if isinstance(info, dict) else None
    if not isinstance(name, str) or not name:
        return member.client
    return f'"{_shown(name)}"' if member.claimed else _shown(name)


def _shown(text: str) -> str:
    # Anybody may call themselves anything: no line breaks, nothing that moves a terminal's cursor.
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:MAX_NAME])
    return shown + "…" * (len(text) > MAX_NAME)


def _why(departure: Departure) -> str:
    return "" if departure.reason == "left" else f" ({_shown(departure.reason)})"
