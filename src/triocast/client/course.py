"""Where the stream of each group is: what was handed on, what to ask for after a loss, and whether what comes follows.

Pure: it connects nowhere and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from triocast.client.errors import UnexpectedFrame
from triocast.client.frames import Delivered, Frame, Gap, Item, Joined, Left, Received
from triocast.client.presence import Presence, PresenceReset
from triocast.core.message import Position
from triocast.core.positions import parse_position
from triocast.core.recovery import OLDEST
from triocast.errors import InvalidPosition

UNTOLD = "untold"
EPOCH = "epoch"

Step = tuple[Item | Delivered, Position | None]
"""What is handed on, and the position of its group then: None if nobody has told its epoch, or if it does not move."""


@dataclass(slots=True)
class Place:
    """Where one group is. `at` is the position of what was handed on last, or of where it began; None if not known.

    `start` is where this connection's stream begins, until something of the group comes. While a place is `free`, what
    comes may begin there: nothing is promised about what was before. Once it was `left`, it goes on where the server
    takes us in again; on a new connection, where it was.
    """

    group: str
    at: Position | None = None
    start: Position | None = None
    free: bool = True
    left: bool = False

    @property
    def epoch(self) -> str:
        """The epoch of what comes next; empty if nobody has told."""
        known = self.start or self.at
        return known.epoch if known is not None else ""

    def come_back(self) -> None:
        """Take note of a new connection: an offset whose epoch nobody told says nothing there."""
        self.start, self.left = None, False
        if self.at is not None and not self.at.epoch:
            self.at, self.free = (OLDEST if self.at == OLDEST else None), True

    def begin(self, start: Position) -> None:
        """Take note where the stream begins; what was handed on before stays what counts."""
        if self.at is None or self.left:
            self.at, self.free, self.left = start, False, False
        elif self.at == OLDEST:
            # Not `start`: if the connection breaks now, a gap before it is still to be told.
            self.at = Position(start.epoch, 0)
        self.start = start

    def lead_to(self, first: int) -> Iterator[Gap]:
        """Give what is missing before the offset `first`, of which the server said nothing.

        Raises `UnexpectedFrame` if it came already.
        """
        at = self.start if self.free else self.at
        if at is not None and self.start is not None and at.epoch != self.start.epoch:
            yield Gap(self.group, 1, self.start.offset, EPOCH, (at.epoch, self.start.epoch))
            at = self.start
        if at is not None and first > at.offset + 1:
            yield Gap(self.group, at.offset + 1, first - 1, UNTOLD)
        if at is not None and first <= at.offset and not self.free:
            raise UnexpectedFrame(f"the server sent {first} of {self.group} after {at.offset}, which is not in order")

    def count_from(self, start: Position) -> Iterator[Gap]:
        """Give what is missing before `start`, where messages are counted from there."""
        at = self.at
        if self.free or at is None:
            return
        if at.epoch != start.epoch or at.offset > start.offset:
            yield Gap(self.group, 1, start.offset, EPOCH, (at.epoch, start.epoch))
        elif at.offset < start.offset:
            yield Gap(self.group, at.offset + 1, start.offset, UNTOLD)

    def reach(self, offset: int, epoch: str | None = None) -> None:
        """Take note that everything up to `offset` was handed on."""
        self.at, self.start, self.free = Position(self.epoch if epoch is None else epoch, offset), None, False


class Course:
    """The places of a listener's groups, over all its connections; each new one begins with `begin`.

    With `counts` messages have no offsets of their own, and are counted from where the handshake says.
    """

    def __init__(self, groups: Sequence[str], since: Mapping[str, Position], *, counts: bool = False) -> None:
        wishes = {group: since.get(group) for group in groups}
        self._places = {group: Place(group, at, free=at in (None, OLDEST)) for group, at in wishes.items()}
        self.counts = counts
        self._origins = {group: at for group, at in wishes.items() if at is not None}

    @property
    def origins(self) -> dict[str, Position]:
        """The position with which each group began, as far as it is known."""
        return {group: at for group, at in self._origins.items() if at.epoch or at == OLDEST}

    @property
    def since(self) -> list[Position] | None:
        """What to ask for, for each group in their order; None if the position of one of them is not known."""
        places = [place.at for place in self._places.values()]
        known = [at for at in places if at is not None and (at.epoch or at == OLDEST)]
        return known if len(known) == len(places) else None

    def begin(self, header: str | None) -> Iterator[Step]:
        """Take note of a new connection, and of where its handshake says that each group begins.

        Gives what is missing, where that is all that the server will say of it.
        """
        starts = _positions_in(header, len(self._places))
        for place in self._places.values():
            place.come_back()
            if self.counts and not starts:
                place.at, place.free = None, True  # what comes first are last values, whose offsets nobody tells
        for place, start in zip(self._places.values(), starts, strict=False):
            self._join(place, start)
            if self.counts:
                for gap in place.count_from(start):
                    yield gap, start
                place.reach(start.offset, start.epoch)

    def follow(self, frame: Frame) -> Iterator[Step]:
        """Give what a frame means for those who listen: itself, after what is missing before it.

        A step counts as handed on once the next one is asked for. Raises `UnexpectedFrame` for what came already.
        """
        place = self._places.get(frame.group or "") if frame is not None else None
        match frame:
            case Joined() if place is not None:
                self._join(place, Position(frame.epoch, frame.offset))
            case Gap() if place is not None:
                yield from self._miss(place, frame)
            case Received() if place is not None:
                yield from self._receive(place, frame)
            case Delivered() if place is not None:
                yield from self._pass_over(place, frame)
            case Left():
                if place is not None:
                    place.left = True
                yield frame, None
            case Presence() | PresenceReset():
                yield frame, None
            case Received() | Gap():  # of several groups in the raw format, or of one that was not asked for
                yield frame, None

    def _join(self, place: Place, start: Position) -> None:
        place.begin(start)
        if place.at is not None and self._origins.get(place.group) in (None, OLDEST):
            self._origins[place.group] = place.at

    def _miss(self, place: Place, gap: Gap) -> Iterator[Step]:
        if gap.count < 0:
            raise UnexpectedFrame(f"the server sent a gap of {gap.group} from {gap.first} to {gap.last}")
        epoch = None if gap.epochs is None else gap.epochs[1]
        if epoch is None:
            yield from self._lead(place, gap.first)
        yield gap, _told(place.epoch if epoch is None else epoch, gap.last)
        place.reach(gap.last, epoch)

    def _receive(self, place: Place, received: Received) -> Iterator[Step]:
        if self.counts and place.at is not None:
            received = replace(received, offset=place.at.offset + 1)
        if received.offset is None:
            yield received, None
            return
        yield from self._lead(place, received.offset)
        yield received, _told(place.epoch, received.offset)
        place.reach(received.offset)

    def _pass_over(self, place: Place, delivered: Delivered) -> Iterator[Step]:
        if place.epoch and place.epoch != delivered.epoch:  # which nobody told
            place.start = Position(delivered.epoch, delivered.offset - 1)
        yield from self._lead(place, delivered.offset)
        yield delivered, Position(delivered.epoch, delivered.offset)
        place.reach(delivered.offset, delivered.epoch)

    def _lead(self, place: Place, first: int) -> Iterator[Step]:
        for gap in place.lead_to(first):
            epoch = place.epoch
            yield gap, _told(epoch, gap.last)
            place.reach(gap.last, epoch)


def _told(epoch: str, offset: int) -> Position | None:
    return Position(epoch, offset) if epoch else None


def _positions_in(header: str | None, count: int) -> list[Position]:
    """Return the positions that the handshake's header has, none if it is not about `count` groups."""
    texts = (header or "").split(",")
    try:
        return [parse_position(text.strip()) for text in texts] if len(texts) == count else []
    except InvalidPosition:
        return []
