"""Where a listener's first connection is to begin, as its caller says it, and how a server is asked for that.

It knows nothing of connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from triocast.core.message import Position
from triocast.core.positions import parse_since
from triocast.core.recovery import OLDEST

Since = Mapping[str, Position | str] | str | None
Beginning = Sequence[str]
"""Parameters of a query, each as NAME=VALUE."""


def read_since(groups: Sequence[str], since: Since) -> dict[str, Position]:
    """Return the position for each group, nothing if `since` is None. The text "0" holds for all, any other for one.

    Raises `InvalidPosition`, and `ValueError` if there is not one for each.
    """
    if since is None:
        return {}
    if isinstance(since, str):
        if since != "0" and len(groups) > 1:
            raise ValueError("a position belongs to one group: for several, since is a mapping from group to position")
        since = dict.fromkeys(groups, since)
    missing = [group for group in groups if group not in since]
    if missing:
        raise ValueError(f'since has no position for {", ".join(missing)}: "0" begins with the oldest message kept')
    told = {group: since[group] for group in groups}
    return {group: parse_since(each) if isinstance(each, str) else each for group, each in told.items()}


def beginning_of(since: Iterable[Position], last: int | None) -> Beginning:
    """Return what the first connection asks for."""
    return since_parameters(since) if last is None else [f"last={last}"]


def since_parameters(positions: Iterable[Position]) -> Beginning:
    """Return what asks for what follows `positions`, one for each group in their order."""
    return [f"since={position_text(position)}" for position in positions]


def position_text(position: Position) -> str:
    """Return the position as `since` takes it."""
    return "0" if position == OLDEST else str(position)
