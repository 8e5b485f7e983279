"""Who comes back to the simulation: what a person has been given over all of its connections, and asks for next.

It sees what a client would see: bytes that were lost on the way it knows nothing of.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.simulation_membership import Learned, Membership
from tests.simulation_presence import OFF, somebody
from triocast import Position
from triocast.core.names import namespace_of
from triocast.core.recovery import OLDEST, Last, Wish

FORMS = ("raw", "json", "raw", "json", "events", "many")
PRIVATE = "p"  # the namespace of groups with a member or two

AWAY = ("now", "now", "soon", "later", "late")
"""For how long somebody stays away that comes back."""


class Ledger:
    """What a person has of one group: everything up to `at`, but for what gaps have named. Offsets are counted by who
    is given payloads only."""

    def __init__(self) -> None:
        self.at: Position | None = None
        self.messages = 0
        self._settled = False  # it has been told something since it joined
        self._wish: Wish | None = None
        self._start = 0
        self._fresh = False  # a gap may say now what it can't be given of its wish

    def begin(self, joined: Membership, *, silent: bool) -> None:
        """It has been told where its stream begins."""
        wish = joined.wish
        assert not joined.known or wish == self.at or not self._settled
        self._wish, self._fresh, self._settled = wish, isinstance(wish, Position), False
        self._start = joined.start
        goes_on = isinstance(wish, Position) and wish != OLDEST and not silent
        self.at = wish if goes_on else Position(joined.era.epoch, joined.start)  # type: ignore[assignment]

    def learn(self, learned: Learned, *, silent: bool) -> None:
        """Whatever comes follows what it has, also what it had from an earlier connection."""
        at = self.at
        if silent:
            assert at is not None
            if learned.first > self._start:  # else it was on its way when its client joined again
                assert learned.position.epoch == at.epoch, (learned, at)
                assert learned.first > at.offset, (learned, at)  # it has no way to see a hole
                self.at = Position(at.epoch, at.offset + 1)
                self.messages += 1
            return
        if learned.what == "joined":
            self.begin(learned.membership, silent=False)
            return
        if learned.what == "gap" and self._fresh:
            wish = self._wish
            assert isinstance(wish, Position)
            if learned.before is not None:
                assert (learned.before, learned.first) == (wish.epoch, 1), (learned, at)
            else:
                assert learned.first == wish.offset + 1 or (at is not None and learned.first == at.offset + 1), (
                    learned,
                    at,
                )
        else:
            assert at is not None, (learned, at)
            assert (learned.position.epoch, learned.first) == (at.epoch, at.offset + 1), (learned, at)
        self._fresh, self._settled = False, True
        self.at = learned.position
        self.messages += learned.what == "message"


class Person:
    """A client for all of its connections: how it is told things, where it belongs, and what it has."""

    def __init__(self, groups: Sequence[str], forgiving: Sequence[str], random: Random, *, asks: float) -> None:
        self.random = random
        self.form = random.choice(FORMS)
        self.identity = somebody(random)
        self.asks = not self.silent and random.random() < asks  # who is there
        if self.asks:
            groups = [name for name in groups if namespace_of(name) != OFF]
        self.strict = random.random() < 0.15
        self.interests = random.choice([groups, forgiving])
        public = [name for name in self.interests if namespace_of(name) != PRIVATE]
        private = [name for name in groups if namespace_of(name) == PRIVATE]
        self.interests = [*public, *random.sample(private, min(1, len(private)))]
        self.ledgers: dict[str, Ledger] = {}
        self.last_id: str | None = None
        self.stream: list[str] = []  # the groups of its address, of one who reads events
        if self.form in ("events", "many"):
            count = 1 if self.form == "events" else min(len(self.interests), random.randint(2, 4))
            self.stream = [random.choice([*self.interests, *self.interests[len(public) :] * 4])]
            others = [name for name in self.interests if name not in self.stream]
            self.stream += random.sample(others, min(count - 1, len(others)))
            self.form = "events" if len(self.stream) == 1 else "many"

    @property
    def silent(self) -> bool:
        return self.form == "raw"

    def away(self, long: float) -> float:
        """How many seconds until it comes back."""
        random = self.random
        match random.choice(AWAY):
            case "now":
                return 0.0
            case "soon":
                return random.expovariate(1.0)
            case "later":
                return random.expovariate(1 / 6)
            case _:
                return random.uniform(0, long)

    def groups(self) -> list[str]:
        """Return where it wants to be as soon as it is there: where it was, and elsewhere."""
        if self.stream:
            return self.stream
        random = self.random
        known = [name for name, ledger in self.ledgers.items() if ledger.at is not None and random.random() < 0.7]
        known = random.sample(known, min(len(known), 3))
        new = random.sample(self.interests, min(random.randint(0, 2), len(self.interests)))
        return list(dict.fromkeys([*known, *new]))

    def wish(self, group: str) -> tuple[Wish | None, bool]:
        """Return what it asks for, and whether that is to go on where it was."""
        random, ledger = self.random, self.ledgers.get(group)
        at = ledger.at if ledger is not None else None
        if at is not None and random.random() < 0.8:
            return at, True
        known = at if at is not None else Position("elsewhere", 7)
        others = [
            None,
            None,
            OLDEST,
            Last(random.randint(1, 60)),
            Position(known.epoch, max(0, known.offset - random.randint(1, 200))) if known.epoch else OLDEST,
            Position(known.epoch or "elsewhere", known.offset + 100_000),
            Position("elsewhere", random.randint(0, 1000)),
        ]
        return random.choice(others), False

    def ledger(self, group: str) -> Ledger:
        return self.ledgers.setdefault(group, Ledger())

    def learn(self, learned: Learned) -> None:
        if learned.id is not None:
            self.last_id = learned.id
        self.ledger(learned.group).learn(learned, silent=self.silent)
