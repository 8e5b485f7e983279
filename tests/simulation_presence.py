"""What the simulation knows by itself of who is in a group, and what those who ask for presence make of what they hear.

It tells nobody anything; each watcher does what a client has to: ask on every "reset", and apply what it is told behind
the answer.
"""

from __future__ import annotations

import random
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

import trio

from tests.simulation_wire import SaidMember, SaidPresence
from triocast import notices
from triocast.core import presence_log
from triocast.core.identity import ANONYMOUS, Identity
from triocast.core.presence import Change, Departed, Entered, Member, Members, Moved, Reason
from triocast.engines.memory import SWEEP_EVERY
from triocast.hooks import Happening, Hook
from triocast.hub import Hub
from triocast.notices import LONGEST, QUIET
from triocast.watchers import AT_ONCE

OFF = "n"  # the namespace without presence
GRACES = {"d": 1.5, "l": 5.0, "p": 0.01}
"""By namespace, in seconds."""

TINY = 1e-6
MANY = 8  # changes; with more, watchers are told to ask
APART = MANY / AT_ONCE * QUIET + TINY  # seconds between the first and the last event of what was gathered


@contextmanager
def soon_too_much() -> Iterator[None]:
    """While the block lasts, few events are kept for who lags, events are small, and few changes are gathered."""
    kept = presence_log.KEPT, presence_log.EVENT_WEIGHT, presence_log.KEPT_WEIGHT, notices.MOST
    presence_log.KEPT, presence_log.EVENT_WEIGHT, presence_log.KEPT_WEIGHT, notices.MOST = 6, 2_500, 8_000, MANY
    try:
        yield
    finally:
        presence_log.KEPT, presence_log.EVENT_WEIGHT, presence_log.KEPT_WEIGHT, notices.MOST = kept


@contextmanager
def pinned_chance(seed: int) -> Iterator[None]:
    """While the block lasts, connections have the same ids in every run, and are told to go in the same order."""
    chance = Random(f"{seed} chance")
    token, state = secrets.token_urlsafe, random.getstate()
    secrets.token_urlsafe = lambda size=None: urlsafe_b64encode(chance.randbytes(size or 32)).decode()
    random.seed(seed)
    try:
        yield
    finally:
        secrets.token_urlsafe = token
        random.setstate(state)


def somebody(chance: Random) -> Identity:
    """Return who a person is: nobody, a user, one of several with the same user, or what it says of itself."""
    match chance.choice(["nobody", "nobody", "user", "user", "shared", "claims", "claims", "many", "long"]):
        case "nobody":
            return ANONYMOUS
        case "user":
            return Identity.of(f"user {chance.randrange(10**6)}", {"name": "é\u2028"})
        case "shared":
            return Identity.of(f"team {chance.randrange(3)}")
        case "claims":
            return Identity.of(info={"number": chance.randrange(10**6)}, claimed=True)
        case "many":
            return Identity.of(info={"name": "Ann"}, claimed=True)
        case _:
            return Identity.of(f"user {chance.randrange(10**6)}", {"about": "x" * 900})


class Company:
    """Who is in one group: told by the engine, and judged by who really `is_there`, as clients know it.

    A leave is told when the grace is over, at most `late` seconds after that.
    """

    def __init__(self, group: str, grace: float, late: float, is_there: Callable[[str, str], bool]) -> None:
        self.group = group
        self.members: dict[str, Member] = {}
        self.ever: dict[str, Member] = {}
        self.gone: set[str] = set()  # that have left, or moved, once at least
        self.changed: dict[str, float] = {}  # when something was last told of each
        self.joins = self.leaves = self.moves = 0
        self._leaving: dict[str, float] = {}  # since when
        self._grace = grace
        self._late = late
        self._is_there = is_there

    def __repr__(self) -> str:
        return f"<Company of {self.group!r}: {', '.join(self.members)}>"

    # What the engine is asked, and what it tells

    def enter(self, client: str) -> None:
        self._leaving.pop(client, None)

    def depart(self, client: str) -> None:
        self._leaving.setdefault(client, trio.current_time())

    def notice(self, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        assert changes
        assert occupied == (not self.members), self
        for change in changes:
            match change:
                case Entered(member):
                    back = [self.members[each].known_by for each in self._leaving if each in self.members]
                    assert member.known_by is None or member.known_by not in back, f"{member} has come back"
                    self._add(member)
                    self.joins += 1
                case Departed(member, reason):
                    assert reason is Reason.LEFT
                    since = self._remove(member.client)
                    now = trio.current_time()
                    assert since + self._grace - TINY <= now, f"{member} left before its grace was over"
                    assert now <= since + self._grace + self._late, f"{member} left long ago"
                    self.leaves += 1
                case Moved(member, was):
                    before = self.members[was]
                    assert before.known_by == member.known_by is not None
                    assert trio.current_time() <= self._remove(was) + self._grace + self._late
                    self._add(member)
                    self.moves += 1
        assert vacated == (not self.members), self

    def _add(self, member: Member) -> None:
        assert member.client not in self.members, f"{member} joined twice"
        self.members[member.client] = self.ever[member.client] = member
        self.changed[member.client] = trio.current_time()

    def _remove(self, client: str) -> float:
        assert client in self.members, f"{client} left {self.group} twice"
        assert not self._is_there(self.group, client), f"{client} is there: it has not left {self.group}"
        del self.members[client]
        self.gone.add(client)
        self.changed[client] = trio.current_time()
        return self._leaving.pop(client)

    # What others are told

    def check_page(self, page: Members, after: str | None, limit: int) -> None:
        """A page was read in this moment."""
        following = sorted(client for client in self.members if after is None or client > after)
        assert list(page.members) == [self.members[client] for client in following[:limit]]
        assert page.next == (following[limit - 1] if len(following) > limit else None)
        assert page.count == len(self.members)
        assert page.users == len({each.user for each in self.members.values() if each.user is not None})

    def check_told(self, presence: SaidPresence, *, prompt: bool) -> None:
        """Somebody is told this; a `prompt` one as soon as it is known and gathered."""
        coming = [*presence.joined, *presence.moved]
        going = [each.client for each in presence.left]
        assert coming or going
        clients = [each.client for each in coming] + going
        assert len(clients) == len(set(clients)), f"of one connection two things: {presence}"
        assert all(said(self.ever[each.client]) == each.member for each in coming)
        assert self.gone.issuperset(going), "it never left"
        assert self.gone.issuperset(each.was for each in presence.moved), "it never moved"
        if prompt:
            now = trio.current_time()
            for client in clients:
                assert now - self.changed[client] <= LONGEST + QUIET + APART, f"{client}: told late"
                if self.changed[client] < now - APART:
                    assert (client in self.members) == (client not in going), f"{client}: not as it is told"


def said(member: Member) -> SaidMember:
    """Return what clients are told of a member."""
    return SaidMember(member.client, member.user, member.info, member.claimed)


class Attendance:
    """What one watcher knows of one group: nothing until it is told so, then what it is answered and told."""

    def __init__(self, company: Company, ask: Callable[[Attendance], None], *, prompt: bool) -> None:
        self.company = company
        self.known: dict[str, SaidMember] = {}
        self.resets = 0
        self.over = False
        self._ask = ask
        self._prompt = prompt
        self._behind: list[SaidPresence] | None = None  # what was told since it asked; None: it was answered

    def take(self, presence: SaidPresence | str) -> None:
        """It is told something."""
        if isinstance(presence, str):
            assert presence == "reset"
            self.resets += 1
            self._behind = []
            self._ask(self)
            return
        assert self.resets, "told who is there before it was told to ask"
        self.company.check_told(presence, prompt=self._prompt)
        if self._behind is None:
            self._apply(presence)
        else:
            self._behind.append(presence)

    async def ask(self, hub: Hub, chance: Random) -> None:
        """Ask for the members, some time after it was told to; given up when it is told so again."""
        number = self.resets
        await trio.sleep(chance.choice([0.0, 0.0, 0.001, 0.2, 2.0]))
        known: dict[str, SaidMember] = {}
        after, limit = None, chance.choice([1, 3, 100, 1000]) + len(self.company.members) // 20
        while not self.over and number == self.resets:
            page = await hub.members(self.company.group, after, limit)
            self.company.check_page(page, after, limit)
            known.update({member.client: said(member) for member in page.members})
            after = page.next
            if after is None:
                self._answer(known)
                return
            await trio.sleep(chance.choice([0.0, 0.0, 0.0, 0.02]))

    def check_now(self) -> None:
        """It has taken all it was told: what it does not know has just happened."""
        if self._behind is None and self.resets:
            for client in self.known.keys() ^ self.company.members.keys():
                ago = trio.current_time() - self.company.changed[client]
                assert ago <= LONGEST + QUIET + APART, f"{client} of {self.company} is not known, or not gone"

    def check_complete(self, there: set[str]) -> None:
        """It knows who is there, as everybody should once all is quiet."""
        assert self.resets, "it was never told to ask"
        assert self._behind is None, "it has not been answered"
        where = f"{self.company}, {there - self.known.keys()} unknown, {self.known.keys() - there} gone"
        assert self.known == {client: said(self.company.members[client]) for client in there}, where

    def _answer(self, known: dict[str, SaidMember]) -> None:
        behind, self._behind, self.known = self._behind or [], None, known
        for presence in behind:
            self._apply(presence)

    def _apply(self, presence: SaidPresence) -> None:
        for moved in presence.moved:
            self.known.pop(moved.was, None)
        for coming in (*presence.joined, *presence.moved):
            self.known[coming.client] = coming.member
        for each in presence.left:
            self.known.pop(each.client, None)


class Attendances:
    """Those of one connection; without `begin` it has not asked for presence."""

    def __init__(self, begin: Callable[[str], Attendance] | None) -> None:
        self.of: dict[str, Attendance] = {}  # by group
        self.resets = 0  # beside the first of each
        self._begin = begin

    def begin(self, group: str) -> None:
        """The group's stream begins."""
        if self._begin is not None:
            self.of[group] = self._begin(group)

    def take(self, group: str, presence: SaidPresence | str) -> None:
        """It is told something."""
        assert self._begin is not None, "it has not asked for presence"
        self.of[group].take(presence)

    def end(self, group: str) -> None:
        """The group's stream ends."""
        attendance = self.of.pop(group, None)
        if attendance is not None:
            attendance.over = True
            self.resets += max(0, attendance.resets - 1)

    def end_all(self) -> None:
        """The connection is over."""
        for group in list(self.of):
            self.end(group)

    def check_complete(self, group: str, there: set[str]) -> None:
        """It knows who is there, if it asked for that."""
        assert (group in self.of) == (self._begin is not None)
        if self._begin is not None:
            self.of[group].check_complete(there)


class Witness:
    """An application whose hooks raise and hang now and then, and what it has to be told by them."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._due: list[Happening] = []
        self._told: list[Happening] = []
        self.failures = 0

    def listen(self, hub: Hub) -> None:
        for hook in Hook:
            hub.hooks.add(hook, self._hear)

    def expect(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        """This has happened."""
        self._due += [Happening(Hook.OCCUPIED, group)] if occupied else []
        for change in changes:
            match change:
                case Entered(member):
                    self._due.append(Happening(Hook.JOIN, group, member))
                case Departed(member, reason):
                    self._due.append(Happening(Hook.LEAVE, group, member, reason))
                case Moved(member, was):
                    self._due.append(Happening(Hook.MOVE, group, member, was=was))
        self._due += [Happening(Hook.VACATED, group)] if vacated else []

    def check(self, hub: Hub) -> None:
        """It was told all of it in order, and it adds up: one leave for each join, with moves followed; occupied and
        vacated in turn."""
        assert self._told == self._due, (len(self._told), len(self._due))
        assert sum(hub.hooks.failed.values()) == self.failures
        assert not any(hub.hooks.dropped.values())
        there: dict[str, set[str]] = {}  # by occupied group
        for each in self._told:
            client = each.member.client if each.member is not None else ""
            match each.hook:
                case Hook.OCCUPIED:
                    assert each.group not in there
                    there[each.group] = set()
                case Hook.JOIN:
                    assert client not in there[each.group]
                    there[each.group].add(client)
                case Hook.MOVE:
                    there[each.group].remove(each.was or "")
                    there[each.group].add(client)
                case Hook.LEAVE:
                    there[each.group].remove(client)
                case Hook.VACATED:
                    assert not there.pop(each.group)
        assert not there

    async def _hear(self, happening: Happening) -> None:
        self._told.append(happening)
        await trio.lowlevel.checkpoint()
        match self._chance.random():
            case drawn if drawn < 0.005:
                self.failures += 1
                await trio.sleep_forever()
            case drawn if drawn < 0.02:
                self.failures += 1
                raise RuntimeError("a hook of the simulation fails")


class Attended(Hub):
    """A hub that tells the simulation what its engine tells it of who came and went."""

    companies: dict[str, Company]
    witness: Witness
    failures: list[AssertionError]
    is_ending: Callable[[], bool]

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        if self.is_ending():
            return
        try:
            self.companies[group].notice(changes, occupied=occupied, vacated=vacated)
        except AssertionError as error:  # the engine ends with it, and strikes everybody off
            self.failures.append(error)
            raise
        self.witness.expect(group, changes, occupied=occupied, vacated=vacated)
        super().noticed(group, changes, occupied=occupied, vacated=vacated)


def lateness(*, exact: bool) -> float:
    """How many seconds a leave may be told late."""
    return SWEEP_EVERY + (TINY if exact else 2.0)
