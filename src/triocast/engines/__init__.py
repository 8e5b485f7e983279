"""The engine protocol: how a publish gets its position, reaches history, and comes back to this process's group.

Engines know nothing of connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from triocast.core.message import Draft, Message, Position
from triocast.core.presence import Change, Member, Members, Reason
from triocast.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of history, in one step with the position of the group's newest message.

    The messages have that position's epoch. Those of history have offsets that follow each other: it keeps the newest.
    """

    position: Position
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Audience:
    """How many subscribers a group has in all processes, and how many of them were behind, as each last reported."""

    subscribers: int
    behind: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """One server of an engine: whether it can be asked, since when (trio's clock), and else why not."""

    name: str
    up: bool
    since: float
    why: str


def total(audiences: Iterable[Audience]) -> Audience:
    """Return the sums of what several processes have reported."""
    some = list(audiences)
    return Audience(sum(each.subscribers for each in some), sum(each.behind for each in some))


@dataclass(frozen=True, slots=True)
class Published:
    """Where a message stands; and to whom it goes, where the engine knows other processes.

    `repeated` is said by an engine that `remembers`: nothing was published now, and this is what was said then.
    """

    position: Position
    audience: Audience | None = None
    repeated: bool = False


class Host(Protocol):
    """What an engine needs of the hub that runs it."""

    async def counts(self) -> Mapping[str, Audience]:
        """Count the subscribers of this process, by group."""

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        """Take what this process has brought about, for the application's hooks: who came to a group and who went, and
        whether it had nobody before, or has nobody now. Each change is told to one process."""


class Nobody:
    """The host of an engine without a hub."""

    async def counts(self) -> Mapping[str, Audience]:
        """Count nobody."""
        await trio.lowlevel.checkpoint()
        return {}

    def noticed(self, group: str, changes: Sequence[Change], *, occupied: bool, vacated: bool) -> None:
        """Tell nobody."""


NOBODY = Nobody()


class Engine(Protocol):
    """What every engine does. Each passes the suite in `tests/engines`."""

    name: str
    at_once: bool
    """Whether a message is in the inbox once `publish` returns; else one that fails to come is fetched."""

    remembers: bool
    """Whether it knows by itself what was published with which idempotency key; else the hub does, for this process.

    One that knows other processes, or that raises `UnknownOutcome`, has to.
    """

    @property
    def process(self) -> str | None:
        """What other processes know this one by; None for an engine of one process."""

    @property
    def why(self) -> str:
        """What keeps groups from being published to, or from hearing what is; nothing while all is well."""

    @property
    def nodes(self) -> Sequence[NodeState]:
        """The state of each server that the engine needs."""

    @property
    def unsubscribed(self) -> int:
        """How many groups with members here do not hear at the moment what is published."""

    async def run(self, host: Host = NOBODY, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live in the hub's nursery until cancelled; ready once `task_status.started()` is called.

        An engine that knows other processes tells them, every second, the counts of its `host`, and at the end that
        there is nobody any more.
        """

    def subscribe(self, group: str, inbox: Inbox) -> AbstractAsyncContextManager[Position]:
        """Deliver to `inbox`, while the block lasts, every message after the position that entering it gives.

        At most one inbox a group. A message may come late, twice, out of order or not at all: the group mends that
        with `fetch`. A new epoch is told by `Inbox.renew`, before any message of it.
        """

    async def publish(self, group: str, draft: Draft) -> Published:
        """Give the draft its position and keep it.

        Waits for a place in the inbox first; refused or cancelled there, nothing was published. From then on it was,
        whatever becomes of the caller. Raises `EngineError` if that can't be known. What the draft expects is judged
        in the step that gives it its position: `UnexpectedPosition`, and nothing was published. One that `remembers`
        also raises `IdempotencyConflict` and `TooManyKeys`, and publishes nothing then; a repeat expects nothing.
        """

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        """Return at most `limit` of the messages after the offset `after` that can still be had, oldest first: those of
        history at least. For groups that were not delivered something; it may be asked again until it succeeds.
        """

    async def read(self, group: str, after: int, limit: int) -> Page:
        """Return at most `limit` of the messages kept after the offset `after`, oldest first."""

    async def read_back(self, group: str, before: int | None, limit: int) -> Page:
        """Return at most `limit` of the messages kept before the offset `before` (None: of all), newest first."""

    async def last_values(self, group: str, after: int, limit: int) -> Page:
        """Return at most `limit` of the group's last values after the offset `after`, oldest first: the newest message
        of each key, where the group's settings say that they are kept.
        """

    async def position(self, group: str) -> Position:
        """Return the position of the group's newest message (offset 0: none yet), without making a group."""

    async def census(self, groups: Sequence[str]) -> Mapping[str, Mapping[str, Audience]]:
        """Return what each process has last reported of each of the groups, by its name; a process that reports
        nothing for three seconds is dead, and not there. Raises `EngineError`.
        """

    async def listed(self, after: str | None, limit: int) -> Sequence[str]:
        """Return the first names, at most `limit`, after the name `after` (None: of all) of the groups in which
        processes have reported members; dead ones among them, for a while. Raises `EngineError`.
        """

    def enter(self, group: str, member: Member) -> None:
        """Take note, without waiting, that a connection of this process is in a group, if the group's settings want to
        know; harmless if it is known.

        The inboxes of all processes, and one host, are told; soon, and unless it was gone again by then.
        """

    def depart(self, group: str, client: str, reason: Reason) -> None:
        """Take note that it is in the group no longer: told when the group's grace is over, unless one that is known by
        the same came back by then. Harmless if it is not known."""

    async def members(self, group: str, after: str | None, limit: int) -> Members:
        """Return the first members of a group, at most `limit`, in the order of their connections, after the connection
        `after`: those of all processes, dead ones until they are lost. Raises `EngineError`."""
