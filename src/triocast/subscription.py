"""One client's cursor into one group's log.

It copies nothing and awaits nothing: the group says when there is more, the connection takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from triocast.core.identity import Identity
from triocast.core.log import Entry, GroupLog, first_of, last_of
from triocast.core.message import Gap, GapReason, Message
from triocast.core.overflow import Conflate, Evict, Skip, conflate, judge
from triocast.core.presence import Member
from triocast.core.wire import Delivered, Format
from triocast.errors import TOO_SLOW, Close
from triocast.meters import Eviction
from triocast.pins import Pins
from triocast.recovery import Recovery

if TYPE_CHECKING:
    from triocast.group import Group


Given = Entry | Delivered
"""What a subscription hands out."""


class Outlet(Protocol):
    """A socket that the broadcaster may write frames to directly, while it is `ready`."""

    ready: bool  # nothing is being written, no Close frame is out, the socket is open
    send: Callable[[bytes], int]  # returns how many bytes the kernel took; raises OSError, BlockingIOError for none

    def keep(self, rest: memoryview) -> None:
        """Keep the rest of a frame that was taken in part; it goes out before anything else."""

    def fill(self) -> None:
        """The kernel took nothing: there is nothing to write until it does."""

    def lose(self) -> None:
        """The socket is broken: close it; whoever reads learns of it."""


class Stream(Protocol):
    """A cursor of one client: into what a group's members are given, or into something else that is told in order."""

    cursor: int
    active: bool
    follower: Follower
    outlet: Outlet | None

    def settle(self) -> bool:
        """Park if everything was taken; otherwise return False and stay in the follower's hands."""


class Follower(Protocol):
    """Whoever owns subscriptions, one a group: a connection."""

    id: str  # by which others name its client
    identity: Identity  # who its client is
    member: Member | None  # how it is shown to who asks for the members of a group; None: it is not
    format: Format  # how its client is written to
    outlet: Outlet | None  # the direct way to its client, where there is one

    def wake(self, stream: Stream) -> None:
        """Take note that there is something to take; called once until it is parked again."""

    def end(self, close: Close) -> None:
        """End the connection, telling its client why; later calls change nothing."""


class Subscription:
    """A member of a group: `cursor` is the offset up to which everything was given, or given up.

    The client's stream begins after the offset `start`; what it missed before it joined is its `recovery`, and comes
    before the cursor's. It is either parked (caught up and waiting in the group) or in its follower's hands. What it
    has coming is in the group's log; only a frozen one has references of its own.
    """

    __slots__ = (
        "active",
        "conflating",
        "counted",
        "cursor",
        "follower",
        "frozen",
        "group",
        "missed",
        "outlet",
        "recovery",
        "start",
    )

    def __init__(self, group: Group, follower: Follower) -> None:
        self.group = group
        self.follower = follower
        self.outlet = follower.outlet
        self.cursor = self.start = group.log.top
        self.active = True
        self.missed = 0  # messages this subscriber was not given, for publisher and operator to see
        self.conflating = False
        self.frozen: deque[Entry] | None = None
        self.recovery: Recovery | None = None  # what comes before the cursor's
        self.counted = True
        """Whether who counts messages from `start` on knows their offsets: nothing is left out that is not missed."""

    def __repr__(self) -> str:
        state = f"{self.behind} behind" if self.active else "left"
        return f"<Subscription {self.group.name!r} at {self.cursor}, {state}{', frozen' if self.frozen else ''}>"

    @property
    def behind(self) -> int:
        """How many messages have not been taken yet."""
        return self.group.log.top - self.cursor + len(self.frozen or ())

    @property
    def given(self) -> int:
        """The offset up to which everything was given, or named by a gap, wherever it came from."""
        if self.recovery is not None:
            return self.recovery.given
        return first_of(self.frozen[0]) - 1 if self.frozen else self.cursor

    def recover_with(self, recovery: Recovery) -> None:
        """Begin, with what was missed; whoever holds the subscription wakes its follower then."""
        self.start = recovery.start
        self.counted = recovery.counted
        if not recovery.done:
            self.recovery = recovery

    async def recover(self, budget: int) -> list[Given]:
        """Return what it missed before it joined, as `take` does; nothing once there is nothing left of that.

        Raises `EngineError`; cancelled, nothing was taken.
        """
        recovery = self.recovery
        if recovery is None or not self.active:
            return []
        entries = await recovery.take(budget)
        if not self.active or self.recovery is not recovery:  # it was left meanwhile, or its epoch is over
            return []
        if recovery.done:
            self.recovery = None
        return self._hand_out(entries)

    def renew(self, old: GroupLog, fresh: Recovery) -> None:
        """Go on in the group's new epoch with what `fresh` gives; what was still coming of the `old` log is lost.

        Whoever has it wakes its follower then.
        """
        lost = Gap(self.group.name, old.epoch, self.given + 1, old.top, GapReason.LOST)
        self.thaw()
        self.conflating = False
        self.recovery = fresh.behind(lost if lost.count else None)
        self.cursor = self.group.log.top

    def take(self, budget: int) -> list[Given]:
        """Return what comes next, at most `budget` bytes or one message, and move the cursor past it.

        A gap comes in its place, before what follows it, and so does what a message is that excludes the follower:
        delivered. Empty when there is nothing more, or when the group's
        policy has just ended the follower.
        """
        if not self.active:
            return []
        if self.frozen is not None:
            return self._take_frozen(budget)
        log, name = self.group.log, self.group.name
        match judge(self.group.policy, name, self.cursor, log):
            case Skip(gap):
                return self._pass([gap])
            case Evict(behind):
                self.evict(behind)
                return []
            case Conflate():
                self.conflating = True
        if self.conflating:
            return self._pass(conflate(name, self.cursor, log, budget))
        return self._pass(log.read(self.cursor, budget))

    def settle(self) -> bool:
        """Park if everything was taken; otherwise return False and stay in the follower's hands."""
        if self.active and (self.recovery or self.frozen is not None or self.cursor < self.group.log.top):
            return False
        if self.active:
            self.conflating = False
            self.group.park(self)
        return True

    def evict(self, behind: int, why: Eviction = Eviction.TOO_SLOW) -> None:
        """End the follower because it was `behind` messages behind, more than the group allows."""
        self.group.evicted += 1
        self.group.meters.evict(why)
        reason = f"too slow: {behind} messages behind in {self.group.name}; come back"
        self.follower.end(TOO_SLOW.because(reason))

    def freeze(self, pins: Pins) -> None:
        """Keep references of its own to what is coming, and nothing that is published from now on until that is
        drained; evict it when all clients together pin too much."""
        log = self.group.log
        if not pins.take(log.weight_after(self.cursor)):
            self.evict(self.behind, Eviction.PINNED_BYTES)
            return
        self.frozen = deque(log.after(self.cursor))
        self.cursor = log.top

    def thaw(self) -> None:
        """Let go what is frozen; for the group, when the membership ends."""
        if self.frozen is not None:
            self.group.pins.give_back(sum(entry.weight for entry in self.frozen))
            self.frozen = None

    def _take_frozen(self, budget: int) -> list[Given]:
        assert self.frozen is not None  # noqa: S101 - for the type checker
        entries: list[Entry] = []
        weight = 0
        while self.frozen and (not entries or weight + self.frozen[0].weight <= budget):
            entries.append(self.frozen.popleft())
            weight += entries[-1].weight
        self.group.pins.give_back(weight)
        if not self.frozen:
            self.frozen = None
            self._miss_what_came_meanwhile(entries)
        self._count(entries)
        return self._hand_out(entries)

    def _miss_what_came_meanwhile(self, entries: list[Entry]) -> None:
        log = self.group.log
        if log.top > self.cursor:
            entries.append(Gap(self.group.name, log.epoch, self.cursor + 1, log.top, GapReason.SLOW))
            self.cursor = log.top

    def _pass(self, entries: list[Entry]) -> list[Given]:
        if entries:
            self.cursor = last_of(entries[-1])
            self._count(entries)
            self.group.gate.progressed()
        return self._hand_out(entries)

    def _hand_out(self, entries: list[Entry]) -> list[Given]:
        """Return `entries` for this follower, whatever way they came: here alone it is known whom it is given to."""
        own = self.follower.id
        given = [_delivered(each) if isinstance(each, Message) and each.exclude == own else each for each in entries]
        self.group.traffic.deliver(given)
        return given

    def _count(self, entries: list[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Gap) and entry.reason in (GapReason.SLOW, GapReason.SUPERSEDED):
                self.missed += entry.count
                self.group.dropped += entry.count
                self.group.traffic.drop(self.group.policy.value, entry.count)


def _delivered(message: Message) -> Delivered:
    return Delivered(message.group, message.epoch, message.offset)
