"""Who is in a group: members, what changes, one group's roll of them, and changes gathered to be told together.

Times come in as arguments; nothing here tells anybody.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from triocast.core.identity import ANONYMOUS, Identity


class Reason(Enum):
    """Why a member is one no longer."""

    LEFT = "left"  # it left the group, or its connection is over, for whatever cause
    REMOVED = "removed"  # the application took it out
    LOST = "lost"  # its process died
    MOVED = "moved"  # it came back with another connection, which is a member now


@dataclass(frozen=True, slots=True)
class Member:
    """A connection that is in a group, by its id, and who it is."""

    client: str
    identity: Identity = ANONYMOUS

    @property
    def user(self) -> str | None:
        """Its user; None for somebody anonymous."""
        return self.identity.user

    @property
    def info(self) -> dict[str, Any] | None:
        """What is shown of it, decoded; only the client's own word for it where it is `claimed`."""
        info = self.identity.info
        return None if info is None else msgspec.json.decode(info)

    @property
    def claimed(self) -> bool:
        """Whether nobody but the client itself has said what the info is."""
        return self.identity.claimed

    @property
    def known_by(self) -> Hashable | None:
        """What one that comes back is recognised by: its user, or what it says of itself; None: by nothing."""
        return self.identity.info if self.user is None else (self.user,)


@dataclass(frozen=True, slots=True)
class Entered:
    """A member more."""

    member: Member


@dataclass(frozen=True, slots=True)
class Departed:
    """A member less."""

    member: Member
    reason: Reason


@dataclass(frozen=True, slots=True)
class Moved:
    """A member that came back: the connection `was` is its no longer."""

    member: Member
    was: str


Change = Entered | Departed | Moved


@dataclass(frozen=True, slots=True)
class Members:
    """A page of a group's members, in the order of their connections; `count` and `users` are those of all of them,
    anonymous ones being no user. `next` is what the next page comes after, None for the last."""

    members: Sequence[Member]
    count: int
    users: int
    next: str | None = None


class Roll:
    """The members of one group, those included whose leave is not announced yet because they may come back."""

    __slots__ = ("_back", "_leaving", "_members", "_order", "_users")

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._order: list[str] = []  # their connections, sorted: a crowd that is told to ask asks for many pages
        self._leaving: dict[str, tuple[float, Reason]] = {}  # when each is announced, soonest first
        self._back: dict[Hashable, dict[str, None]] = {}  # those of them by what they are recognised by
        self._users: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"<Roll {len(self._members)} members, {len(self._leaving)} leaving>"

    @property
    def due(self) -> float | None:
        """When the next leave is to be announced."""
        return next((due for due, _ in self._leaving.values()), None)

    def enter(self, member: Member) -> Change | None:
        """Take a member in; None if nobody need be told."""
        if member.client in self._members:
            self._stay(member.client)
            return None
        self._add(member)
        same = self._back.get(member.known_by) if member.known_by is not None else None
        if not same:
            return Entered(member)
        was = next(iter(same))
        self._drop(was)
        return Moved(member, was)

    def depart(self, client: str, reason: Reason, due: float | None = None) -> Departed | None:
        """Strike a member off, or note when its leave is `due`; a time must not be before one given earlier."""
        member = self._members.get(client)
        if member is None:
            return None
        if due is None:
            self._drop(client)
            return Departed(member, reason)
        if client not in self._leaving:
            self._leaving[client] = due, reason
            if member.known_by is not None:
                self._back.setdefault(member.known_by, {})[client] = None
        return None

    def expire(self, now: float) -> list[Departed]:
        """Strike those off whose time is over."""
        gone = []
        while self._leaving:
            client, (due, reason) = next(iter(self._leaving.items()))
            if due > now:
                break
            gone.append(Departed(self._members[client], reason))
            self._drop(client)
        return gone

    def end(self) -> list[Departed]:
        """Strike everybody off; who was about to leave has its own reason."""
        gone = []
        for client, member in list(self._members.items()):
            _, reason = self._leaving.get(client, (0.0, Reason.LEFT))
            gone.append(Departed(member, reason))
            self._drop(client)
        return gone

    def page(self, after: str | None, limit: int) -> Members:
        """Return the first members, at most `limit`, whose connections come after `after`."""
        begin = 0 if after is None else bisect_right(self._order, after)
        clients = self._order[begin : begin + limit]
        found = [self._members[client] for client in clients]
        following = clients[-1] if begin + limit < len(self._order) else None
        return Members(found, len(self._members), len(self._users), following)

    def _add(self, member: Member) -> None:
        self._members[member.client] = member
        insort(self._order, member.client)
        if member.user is not None:
            self._users[member.user] += 1

    def _drop(self, client: str) -> None:
        self._stay(client)
        member = self._members.pop(client)
        del self._order[bisect_left(self._order, client)]
        if member.user is not None:
            self._users[member.user] -= 1
            if not self._users[member.user]:
                del self._users[member.user]

    def _stay(self, client: str) -> None:
        """Forget that it is about to leave, if it is."""
        if self._leaving.pop(client, None) is None:
            return
        known_by = self._members[client].known_by
        if known_by is not None:
            self._back[known_by].pop(client)
            if not self._back[known_by]:
                del self._back[known_by]


class Changes:
    """What is to be told of a group: of each connection what holds in the end, in whatever order it came about.

    One that came and went meanwhile has left: whoever asked for the members in between may know it. Each connection
    stands in one place only, and none that has been replaced is there again: in which order the three are applied is
    of no consequence.
    """

    __slots__ = ("_replaced", "joined", "left", "moved")

    def __init__(self) -> None:
        self.joined: dict[str, Member] = {}
        self.left: dict[str, Reason] = {}
        self.moved: dict[str, Moved] = {}
        self._replaced: dict[str, str] = {}  # of those that moved, by which connection which other

    def __len__(self) -> int:
        return len(self.joined) + len(self.left) + len(self.moved)

    def __repr__(self) -> str:
        return f"<Changes {len(self.joined)} joined, {len(self.left)} left, {len(self.moved)} moved>"

    def add(self, changes: Iterable[Change]) -> None:
        """Add what happened next."""
        for change in changes:
            match change:
                case Entered(member):
                    self.enter(member)
                case Departed(member, reason):
                    self.leave(member.client, reason)
                case Moved(member, was):
                    self.move(member, was)

    def enter(self, member: Member) -> None:
        """One has come."""
        self._be_there(member.client)
        if member.client not in self.moved:  # else it came, left and came again, and who it was is to be told
            self.joined[member.client] = member

    def leave(self, client: str, reason: Reason) -> None:
        """One has left; so has, if it had come back meanwhile, the one that it was."""
        self.joined.pop(client, None)
        moved = self._unmove(client)
        if moved is not None:
            self.left[moved.was] = reason
        self.left[client] = reason

    def move(self, member: Member, was: str) -> None:
        """One has come back: as new to whoever was not told of it before."""
        self._be_there(member.client)
        known = member.client in self.joined or member.client in self.moved  # it came before, left and came again
        new = self.joined.pop(was, None) is not None
        before = self._unmove(was)
        first = was if before is None else before.was
        if not new and not known:
            self.moved[member.client] = Moved(member, first)
            self._replaced[first] = member.client
        elif not known:
            self.joined[member.client] = member
        if new or known or before is not None:
            self.left[was] = Reason.MOVED
        if known:
            self.left[first] = Reason.MOVED

    def _unmove(self, client: str) -> Moved | None:
        moved = self.moved.pop(client, None)
        if moved is not None:
            del self._replaced[moved.was]
        return moved

    def _be_there(self, client: str) -> None:
        """A connection is there (again): it has not left, and what has replaced it meanwhile is one more."""
        self.left.pop(client, None)
        successor = self._replaced.get(client)
        if successor is not None:
            moved = self._unmove(successor)
            assert moved is not None  # noqa: S101 - for the type checker
            self.joined[successor] = moved.member
