"""What this process has members of in the groups of one partition, and what the server is still to be told of them.

Plain decisions, each one step; it sends nothing and awaits nothing. The server is told in batches, one at a time. It
does nothing if it has something else of this process than the book thinks: then everything is told anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from triocast.core.presence import Change, Departed, Entered, Member, Moved, Reason
from triocast.engines.redis.members import unpack_member

BATCH = 200  # orders in one script: the server does nothing else meanwhile, for some 3 ms

Place = tuple[str, str]
"""A group and a connection."""


class Known:
    """One that is a member, or was; `noticed` once the application was told that it came."""

    __slots__ = ("member", "noticed")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.noticed = False

    def __repr__(self) -> str:
        return f"<Known {self.member.client!r}{', noticed' if self.noticed else ''}>"


@dataclass(frozen=True, slots=True)
class Order:
    """That one is to enter a group; with a reason, that it is to depart, after a grace in seconds."""

    group: str
    known: Known
    reason: Reason | None = None
    grace: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What the server is told in one step. Until it is known what became of that, the same batch is sent again."""

    anew: bool
    """Whether it is told whatever it has of us."""
    had: str
    """What it should have of us."""
    number: str
    """What it has of us from then on; tells one batch from another."""
    generation: int
    orders: Sequence[Order]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a batch: whether this process was taken for dead before, whether it has members in the partition,
    how many each of the groups had before and has now, and what came of each order (see `change.lua`)."""

    dead: bool
    present: bool
    counts: dict[str, tuple[int, int]]
    results: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class News:
    """What the application is to be told of a group."""

    group: str
    changes: Sequence[Change]
    occupied: bool
    vacated: bool


class Book:
    """One partition's."""

    def __init__(self) -> None:
        self.mark = ""
        """What the server should have of this process; empty for nothing."""
        self.flight: Batch | None = None
        """What it was told of which it is not known what came of it."""
        self.numbers = 0
        """How many batches there were."""
        self.generation = 0
        self.leftover = False
        """Whether the server may have members of ours that are none, from generations before this one."""
        self._here: dict[Place, Known] = {}
        self._waiting: dict[Place, Order] = {}  # one for each place, in order: it is here, or not, in the end
        self._anew = False
        self._dead = False  # others have told that our members are lost

    def __len__(self) -> int:
        return len(self._here)

    def __repr__(self) -> str:
        unsure = ", unsure" if self._anew or self.leftover else ""
        return f"<Book {len(self._here)} members, {len(self._waiting)} orders{unsure}>"

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell, or to find out."""
        return self.flight is None and not self._waiting and not self._anew and not self.leftover

    def enter(self, group: str, member: Member) -> None:
        """Take a member in; harmless if it is one."""
        place = group, member.client
        if place in self._here:
            return
        leaves = self._waiting.pop(place, None)
        known = self._here[place] = Known(member) if leaves is None else leaves.known
        if not known.noticed:  # else the server was not told yet that it left: it never did
            self._waiting[place] = Order(group, known)

    def depart(self, group: str, client: str, reason: Reason, grace: float) -> None:
        """Strike a member off; harmless if it is none."""
        place = group, client
        known = self._here.pop(place, None)
        if known is None:
            return
        waiting = self._waiting.pop(place, None)
        if waiting is None or known.noticed:  # one noticed is told again, and the server may have it
            self._waiting[place] = Order(group, known, reason, grace)

    def depart_all(self, grace: Iterable[tuple[str, float]]) -> None:
        """Strike all off: the process ends. `grace` is that of each group."""
        graces = dict(grace)
        for group, client in list(self._here):
            self.depart(group, client, Reason.LEFT, graces[group])

    def groups(self) -> set[str]:
        """Return the groups that have members here."""
        return {group for group, _ in self._here}

    def take(self) -> Batch | None:
        """Return what is to be told now; the same until it is `settle`d or `refuse`d."""
        if self.flight is None and (self._waiting or self._anew):
            orders = [self._waiting.pop(place) for place in list(islice(self._waiting, BATCH))]
            self.numbers += 1
            number = f"{self.generation}.{self.numbers}"
            self.flight = Batch(self._anew, self.mark, number, self.generation, orders)
        return self.flight

    def settle(self, answer: Answer) -> list[News]:
        """Take what came of the batch; returns what the application is to be told."""
        batch = self.flight
        if batch is None:
            return []
        self.flight = None
        self.mark = batch.number if answer.present else ""
        if batch.anew:
            self._anew = False
            self._dead = self._dead or answer.dead
        told: dict[str, list[Change]] = {}
        for order, result in zip(batch.orders, answer.results, strict=True):
            change = self._came_of(order, result)
            if change is not None:
                told.setdefault(order.group, []).append(change)
        return list(news_of(told, answer.counts))

    def refuse(self) -> None:
        """The server has something else of us: tell everything anew."""
        self.generation += 1
        self._anew = self.leftover = True
        owed = dict(self._departs_in_flight())
        self.flight = None
        owed.update((place, order) for place, order in self._waiting.items() if order.reason is not None)
        # Who left goes first: who comes back is recognised by it.
        entering = {place: Order(place[0], known) for place, known in self._here.items()}
        self._waiting = {**owed, **entering}

    def prune(self, places: Sequence[Place]) -> None:
        """Strike off what the server has of generations before this one; the last if fewer than `BATCH`."""
        for group, client in places:
            if (group, client) not in self._here and (group, client) not in self._waiting:
                # That it left was told when it did, so nobody is told again but who watches.
                self._waiting[group, client] = Order(group, Known(Member(client)), Reason.LEFT)
        if len(places) < BATCH:
            self.leftover = self._dead = False

    def _departs_in_flight(self) -> Iterator[tuple[Place, Order]]:
        """Return those of whose departure it is not known what became; who is back meanwhile is as it was before."""
        for order in self.flight.orders if self.flight is not None else ():
            place = order.group, order.known.member.client
            if order.reason is None:
                continue
            back = self._here.get(place)
            if back is None:
                yield place, order
            else:
                back.noticed = back.noticed or order.known.noticed

    def _came_of(self, order: Order, result: bytes) -> Change | None:
        """Return what is news to the application: what it was told of before is none."""
        known = order.known
        if order.reason is not None:
            gone = result[:1] == b"-" or (result == b"?" and not self._dead)
            return Departed(known.member, order.reason) if known.noticed and gone else None
        again, known.noticed = known.noticed, True
        if result == b"s" or (again and not (result and self._dead)):
            return None
        return Moved(known.member, result[1:].decode()) if result[:1] == b"~" else Entered(known.member)


def news_of(told: dict[str, list[Change]], counts: dict[str, tuple[int, int]]) -> Iterator[News]:
    """Return what the application is to be told of each group: with what it had before, and has now."""
    for group, changes in told.items():
        before, after = counts[group]
        yield News(group, changes, occupied=not before, vacated=not after)


def lost_or_due(groups: Sequence[str], results: Sequence[bytes], reason: Reason) -> dict[str, list[Change]]:
    """Return who was struck off of members that may be any process's, by group."""
    told: dict[str, list[Change]] = {}
    for group, result in zip(groups, results, strict=True):
        if result.startswith(b"-"):
            told.setdefault(group, []).append(Departed(unpack_member(result[1:]), reason))
    return told
