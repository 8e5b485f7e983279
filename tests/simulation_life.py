"""One connection of a person of the simulation, from its coming to its going.

It decides nothing after its birth; the simulation does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import TYPE_CHECKING

import trio

from tests.simulation_membership import Learned, Membership
from tests.simulation_model import View
from tests.simulation_net import HTTP_VERSION, WAYS, Kernel, VirtualLink
from tests.simulation_people import Person
from tests.simulation_presence import Attendance
from triocast import Position
from triocast.connection import Connection, open_connection
from triocast.core.listening import Listening
from triocast.core.positions import parse_since
from triocast.core.recovery import Last, Wish
from triocast.core.wire import JSON, RAW
from triocast.hub import Hub
from triocast.subscription import Subscription
from triocast.transports.asgi import POSITION

if TYPE_CHECKING:
    from tests.simulation import Simulation

SOON = 3_000  # bytes: the beginning of a stream, recovered messages


class Life:
    """A connection's nature, as both sides have it, and where it is a member."""

    def __init__(self, simulation: Simulation, person: Person, random: Random) -> None:
        self.random = random
        self.simulation = simulation
        self.person = person
        self.rate = random.choice([math.inf, math.inf, random.uniform(500, 5000)])  # bytes a second while it reads
        self.steady = random.random() < 0.3  # it never stalls
        self.view = View(
            simulation.truths,
            self._hear,
            form=person.form,
            prompt=self.steady and self.rate == math.inf and simulation.exact,
            lossy=simulation.unkind,
            strict=person.strict,
            attend=self._attend if person.asks else None,
        )
        size = random.choice([400, 2_000, 10_000])
        self.kernel = Kernel(size, self.rate, simulation.cost, self._take)
        if random.random() < 0.15 / simulation.calm:
            self.kernel.breaks_after = random.choice([0, random.randint(1, 400), random.randint(1, SOON)])
        self.kernel.on_break = self.cut
        self.link = VirtualLink(self.kernel, simulation.settings.write_timeout)
        self.link.on_close = self._socket_closed
        self.way = random.choice([*HTTP_VERSION] if person.stream else WAYS)
        stay = random.expovariate(2 / simulation.length / simulation.calm)
        self.scope = trio.CancelScope(deadline=trio.current_time() + stay)
        self.turns = random.randint(0, 12) if random.random() < 0.05 / simulation.calm else None
        """It is cancelled after so many turns of the event loop, perhaps before it is open."""
        self.members: dict[str, Membership] = {}
        self.crashes = False  # its handler
        self.dead = False  # it will never read again
        self.fading = False  # on its way out: no sure member of anything
        self.ended_at = math.inf
        self.connection: Connection | None = None  # before it is open
        self._wishes: dict[str, tuple[Wish | None, bool]] = {}
        self._joining: dict[str, tuple[str, int]] = {}  # the epoch when it began to, and where history began
        self._heard: deque[tuple[int, Learned]] = deque()  # what its kernel has, and the client perhaps not

    # Its connection

    def open(self, hub: Hub, groups: Sequence[str]) -> AbstractAsyncContextManager[Connection]:
        """Return what opens the connection, to be in the `groups` at once."""
        for group in groups:
            self.note_joining(group)
        person, strict = self.person, self.person.strict
        if person.stream:
            headers, listening = self._ask(groups)
            return self.simulation.reception.events(self.link.call(self.way, headers), listening)
        transport = self.link.transport(self.way, RAW if person.silent else JSON)
        wishes = {group: self._wishes[group][0] for group in groups}
        return open_connection(
            hub, transport, groups, wishes, strict=strict, presence=person.asks, identity=person.identity
        )

    def note_opened(self, groups: Sequence[str]) -> None:
        """To be called in the step in which it is open."""
        for group in groups:
            self.note_join(group)
        if self.person.form == "many":
            self.view.join_all(groups, {group: self._wishes[group][0] for group in groups})
        if not self.person.stream:
            starts = [Position(self.members[group].era.epoch, self.members[group].start) for group in groups]
            assert self.link.headers == ({POSITION: ", ".join(map(str, starts))} if groups else {})

    def _ask(self, groups: Sequence[str]) -> tuple[list[tuple[bytes, bytes]], Listening]:
        """Ask as an EventSource, which repeats its address and adds the last id it was given."""
        person = self.person
        since = {group: wish for group in groups if isinstance(wish := self._wishes[group][0], Position)}
        last = next((wish.count for group in groups if isinstance(wish := self._wishes[group][0], Last)), None)
        headers = []
        if person.last_id is not None and self.random.random() < 0.9:
            headers = [(b"last-event-id", person.last_id.encode())]
            known = zip(groups, map(parse_since, person.last_id.split(",")), strict=True)
            self._wishes.update({group: (position, True) for group, position in known})
        else:
            others = Last(last) if last is not None else None
            self._wishes.update({group: (since.get(group, others), False) for group in groups})
            person.last_id = None
            person.ledgers.clear()  # a page that is loaded anew
        return headers, Listening(
            groups, since, last, strict=person.strict, presence=person.asks, identity=person.identity
        )

    # Its memberships

    def note_joining(self, group: str, wish: tuple[Wish | None, bool] | None = None) -> Wish | None:
        """To be called in the step in which it begins to join; returns what it is to wish for."""
        if wish is None:
            # Bare payloads do not tell in which membership they were sent.
            again = self.person.silent and group in self.view.memberships
            wish = (None, False) if again else self.person.wish(group)
        truth = self.simulation.truths[group]
        self._wishes[group] = wish
        self._joining[group] = truth.era.epoch, truth.era.oldest(trio.current_time())
        self.simulation.census[group].change(0, 1)
        return wish[0]

    def subscription(self, group: str) -> Subscription:
        """Return its membership of a group."""
        return next(each for each in self.connection._memberships if each.group.name == group)

    def note_join(self, group: str) -> None:
        """To be called in the step in which it has joined."""
        subscription = self.subscription(group)
        now, truth = trio.current_time(), self.simulation.truths[group]
        wish, known = self._wishes[group]
        epoch, oldest = self._joining.pop(group)
        if epoch != truth.era.epoch:
            oldest = 1
        at = Position(subscription.group.log.epoch, subscription.cursor)
        known = known and group not in self.view.memberships
        self.view.join(group, wish, subscription.start, at, (oldest, truth.era.oldest(now)), known=known)
        self.members[group] = self.view.current(group)
        if self.person.silent:  # others are told
            self.person.ledger(group).begin(self.members[group], silent=True)
        self.simulation.census[group].change(0 if self.fading else 1, 0)
        self.simulation.joins += 1
        self.simulation.wishes[type(wish).__name__ if not known else "known"] += 1

    def note_leave(self, group: str) -> None:
        """To be called in the step in which it leaves."""
        subscription = self.subscription(group)
        assert isinstance(subscription, Subscription)
        greeted = subscription not in self.connection._outbound._greetings
        del self.members[group]
        self.view.leave(group, subscription.cursor, greeted=greeted)
        self.simulation.census[group].change(0 if self.fading else -1, -1)

    # Its end

    def cut(self) -> None:
        """The network is gone, in the middle of whatever was being sent."""
        self.simulation.cuts["halfway" if self.view.halfway else "recovering" if self.recovering else "live"] += 1
        self.fade()
        self.link.break_off()

    @property
    def recovering(self) -> bool:
        return any(member.at < member.until for member in self.members.values())

    def fade(self) -> None:
        """Something has happened that ends it."""
        if not self.fading:
            self.fading = True
            self.ended_at = trio.current_time()
            for group in self.members:
                self.simulation.census[group].change(-1, 0)

    def gone(self) -> None:
        """Nothing of it is left; what is still in its kernel is lost."""
        self.fade()
        self.link.end()
        self._know(self.view.taken - self.kernel.queued)
        self.view.attendances.end_all()
        for group in [*self.members, *self._joining]:
            self.simulation.census[group].change(0, -1)

    def _socket_closed(self) -> None:
        if self.link.writer.stalled:
            self.simulation.check_deadline(self.kernel)
        self.fade()

    # What the client has

    def _take(self, data: bytes) -> None:
        try:
            self.view.take(data)
        except AssertionError as error:  # whoever writes may end in another error for it
            self.simulation.failures.append(error)
            raise
        if self._heard:
            self._know(self.view.taken - self.kernel.queued)

    def check_attendances(self) -> None:
        """Of the groups of which it has taken all that it was told, it knows who is there."""
        connection = self.connection
        if connection is None or self.fading or self.link.writer.pending or connection._outbound or self.kernel.queued:
            return
        for group, attendance in self.view.attendances.of.items():
            watch = (connection._memberships._watches or {}).get(group)
            if watch is not None and watch.cursor == watch._watchers.log.top and not watch._watchers._coming:
                attendance.check_now()

    def _attend(self, group: str) -> Attendance:
        """It begins to be told who is in a group."""
        return Attendance(self.simulation.companies[group], self.simulation.ask, prompt=self.view.prompt)

    def _hear(self, at: int, learned: Learned) -> None:
        self._heard.append((at, learned))

    def _know(self, taken: int) -> None:
        """The client has taken so many bytes."""
        while self._heard and self._heard[0][0] <= taken:
            self.person.learn(self._heard.popleft()[1])
