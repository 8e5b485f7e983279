"""A group's second log: the newest of what was told of who is there, for those who ask for it.

It has no positions that anybody outside knows, and no history: a reader that it has nothing for begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from triocast.core.presence import Changes, Member, Moved, Reason
from triocast.core.wire.format import Presence

EVENT_WEIGHT = 60 * 1024  # bytes of one event: a little less than one write, for what stands around it
KEPT = 64  # events a reader may be behind: a minute of bursts, or hours of somebody coming now and then
KEPT_WEIGHT = 256 * 1024  # bytes it may be behind; four of the largest
_OVERHEAD = 40  # bytes of JSON around a connection; a thousand that are anonymous are one event
_CLAIMED = 15  # and where it is said that the info is its own claim


class PresenceLog:
    """Events with numbers from 1 on; who has been given the number `top` has been given all."""

    __slots__ = ("_events", "_weight", "top")

    def __init__(self) -> None:
        self.top = 0
        self._events: deque[tuple[Presence, int]] = deque()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<PresenceLog {len(self)} events up to {self.top}>"

    def append(self, event: Presence) -> None:
        """Add an event, and let go what is too much."""
        weight = weight_of(event)
        self._events.append((event, weight))
        self._weight += weight
        self.top += 1
        while len(self._events) > 1 and (len(self._events) > KEPT or self._weight > KEPT_WEIGHT):
            self._weight -= self._events.popleft()[1]

    def clear(self) -> None:
        """Keep nothing: everybody has been given all there is."""
        self._events.clear()
        self._weight = 0

    def read(self, group: str, cursor: int) -> tuple[list[Presence], int]:
        """Return what comes after the number `cursor`, as events of one write at most, and up to which number that is.

        Several become one, of each connection what holds in the end; who is behind by more than there is is told so.
        """
        missing = cursor - self.top + len(self._events)
        if missing < 0:
            return [Presence(group, reset=True)], self.top
        coming = list(self._events)[missing:]
        count, weight = 0, 0
        while count < len(coming) and (not count or weight + coming[count][1] <= EVENT_WEIGHT):
            weight += coming[count][1]
            count += 1
        events = [event for event, _ in coming[:count]]
        return (merged(group, events) if count > 1 else events), cursor + count


def merged(group: str, events: Iterable[Presence]) -> list[Presence]:
    """Return the fewest events that say the same in the end."""
    changes = Changes()
    reset: list[Presence] = []
    for event in events:
        if event.reset:
            changes, reset = Changes(), [event]
        for moved in event.moved:
            changes.move(moved.member, moved.was)
        for member in event.joined:
            changes.enter(member)
        for client, reason in event.left:
            changes.leave(client, reason)
    return [*reset, *told(group, changes)]


def told(group: str, changes: Changes) -> Iterator[Presence]:
    """Return changes as events, each no heavier than one write; none for none."""
    for some in _pieces([*changes.moved.values(), *changes.joined.values(), *changes.left.items()]):
        yield Presence(
            group,
            [each for each in some if isinstance(each, Member)],
            [each for each in some if isinstance(each, tuple)],
            [each for each in some if isinstance(each, Moved)],
        )


def weight_of(event: Presence) -> int:
    """Return about how many bytes an event is."""
    changes: list[_One] = [*event.joined, *event.left, *event.moved]
    return sum(map(_weight, changes))


_One = Member | Moved | tuple[str, Reason]


def _pieces(changes: Iterable[_One]) -> Iterator[list[_One]]:
    piece: list[_One] = []
    weight = 0
    for each in changes:
        if piece and weight + _weight(each) > EVENT_WEIGHT:
            yield piece
            piece, weight = [], 0
        piece.append(each)
        weight += _weight(each)
    if piece:
        yield piece


def _weight(one: _One) -> int:
    match one:
        case Member():
            who = one.identity
            size = len(one.client) + _length(who.user) + len(who.info or b"")
            return _OVERHEAD + size + (_CLAIMED if who.claimed else 0)
        case Moved():
            return _OVERHEAD + len(one.was) + _weight(one.member)
        case _:
            return _OVERHEAD + len(one[0])


def _length(user: str | None) -> int:
    """Return how long a name is as JSON, which writes some characters as two or four bytes."""
    return 0 if user is None else len(msgspec.json.encode(user))
