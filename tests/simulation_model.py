"""What each client of the simulation had to see, from what was published, what was kept, and what the client wished.

Everything is checked the moment that a client's kernel has the bytes; nothing is collected to be looked at later.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import trio

from tests.simulation_membership import Learned, Membership, Missing, beginning
from tests.simulation_presence import Attendance, Attendances
from tests.simulation_truth import Truth
from tests.simulation_wire import ECHO, Closing, Echo, EventReader, FrameReader, Said, SaidGap, WireReader
from triocast import GapReason, Policy, Position
from triocast.core.recovery import OLDEST, Wish

MISSED = re.compile(r"missed (\d+) to (\d+) \((\w+)\), come back: (.*)")


class View:
    """One client's view: every byte it is given goes through `take`, which checks it against the truths.

    `silent` clients are given payloads only, so gaps are holes to them; a `prompt` one is given everything the
    moment that it is published; a `strict` one nothing more after something that is missing. What it is told goes to
    `learn`, with the number of bytes after which the client knows it.
    """

    def __init__(
        self,
        truths: dict[str, Truth],
        learn: Callable[[int, Learned], None],
        *,
        form: str,
        prompt: bool,
        lossy: bool,
        strict: bool,
        attend: Callable[[str], Attendance] | None = None,
    ) -> None:
        self.silent = form == "raw"
        self.closed: Closing | None = None
        self.memberships: dict[str, list[Membership]] = {}
        self.reasons: Counter[GapReason] = Counter()
        self.told = 0
        self.recovered = 0  # messages
        self.delivered = 0  # messages that it is told of and not given
        self.id: str | None = None  # of its connection, once others may know it
        self.taken = 0  # bytes
        self._truths = truths
        self._learn = learn
        self._events = form in ("events", "many")
        self._ids: dict[str, str] | None = None  # what a client of several groups must be told to have
        self.prompt = prompt
        self._lossy = lossy  # the engine may lose messages
        self._strict = strict
        self.attendances = Attendances(attend)
        self._reader: WireReader = EventReader() if self._events else FrameReader(raw=self.silent)
        self._echoes = 0
        self._streams: dict[str, int] = {}  # that have begun and not ended, and how far they were told
        self._parsed = 0  # bytes
        self._unmoved: str | None = None  # the group of a beginning without id, which a gap has to follow
        self._digest = hashlib.sha256()

    # What the simulation does with it

    def join(
        self, group: str, wish: Wish | None, start: int, at: Position, oldest: tuple[int, int], *, known: bool
    ) -> None:
        """It has joined at the position `at`, having wished for something that it may have `known` before; history
        began at one of the `oldest`."""
        truth, limit = self._truths[group], self._truths[group].settings.recovery_limit
        assert at.epoch == truth.era.epoch
        possible = [beginning(wish, at, each, limit) for each in dict.fromkeys(oldest)]
        assert possible[0][0] <= start <= possible[-1][0], f"{group}: {wish} at {at} begins after {start}: {possible}"
        # In between history may have lost something: `start` says how much.
        _, due = beginning(wish, at, start + 1 if len(possible) > 1 else oldest[0], limit)
        before = wish.epoch if due is not None and due[2] is GapReason.EPOCH and isinstance(wish, Position) else None
        due = None if self.silent and not self._strict else due
        doubtful = beginning(wish, at, start, limit)[1] if len(possible) > 1 and wish == OLDEST else None
        new = Membership(truth.era, start, at.offset, due, wish, known, before, doubtful)
        self.memberships.setdefault(group, []).append(new)

    def join_all(self, groups: Sequence[str], wishes: Mapping[str, Wish | None]) -> None:
        """These are the groups of a client whose events have the positions of all of them."""
        self._ids = {}
        for group in groups:
            wish, joined = wishes.get(group), self.current(group)
            known = wish if isinstance(wish, Position) else Position(joined.era.epoch, joined.start)
            self._ids[group] = "0" if known == OLDEST else f"{known.epoch}:{known.offset}"

    def leave(self, group: str, end: int, *, greeted: bool) -> None:
        """It leaves, and nothing after the offset `end` may come; it has been `greeted`, or never will be."""
        self.current(group).end = end
        if not (greeted or self.silent):
            self.memberships[group].pop()

    def current(self, group: str) -> Membership:
        return self.memberships[group][-1]

    @property
    def halfway(self) -> bool:
        return self._reader.halfway

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    def take(self, data: bytes) -> None:
        """Bytes are with the client's kernel."""
        assert self.closed is None or self._events, "bytes after the Close frame"
        self.taken += len(data)
        for size, item in self._reader.feed(data):
            self._parsed += size
            match item:
                case Said():
                    self.told += 1
                    self._say(item)
                case Echo(text):
                    self._echoes += 1
                    assert text == f"{ECHO}{self._echoes}"
                case Closing():
                    assert self.closed is None
                    self.closed = item
                    self._check_close(item.reason)

    def check_complete(self, group: str, missed: int) -> None:
        """A member that could take everything has been told everything, but for `missed` messages."""
        membership, top = self.current(group), self._truths[group].top
        unseen = top - membership.start - membership.messages
        where = f"{group} at {top}: {membership}, missed {missed}"
        if not self.silent:
            assert membership.told, where
            assert membership.at == top, where
            assert (membership.missed, membership.missed + membership.lost) == (missed, unseen), where
            return
        if membership.at < top:
            self._pass_hole(group, membership, top)
        if self._lossy:
            assert missed <= unseen, where
        else:
            assert unseen - membership.lost - membership.own <= missed <= unseen - membership.lost, where

    def check_streams(self, members: Iterable[str]) -> None:
        """It has been told of every beginning and every end."""
        assert self.silent or set(self._streams) == set(members)

    # What it is told

    def _say(self, said: Said) -> None:
        if said.presence is not None:
            self._present(said)
            return
        if self._unmoved is not None:
            assert said.gap is not None, "a beginning without a position, and no gap that follows"
            assert said.group == self._unmoved
            self._unmoved = None
        if said.joined is not None:
            self._joined(said, said.joined.epoch, said.joined.offset, said.joined.policy)
        elif said.gap is not None:
            self._gap(said, said.gap)
        elif said.left is not None:
            self._left(said, Position(said.left.epoch, said.left.offset))
        elif said.delivered is not None:
            self._delivered(said, Position(said.delivered.epoch, said.delivered.offset))
        else:
            self._message(said)

    def _joined(self, said: Said, epoch: str, offset: int, policy: str) -> None:
        group = said.group
        untold = [each for each in self.memberships[group] if not each.told]
        assert untold, f"{said} once more: {self.memberships[group]}"
        membership = untold[0]
        membership.told = True
        assert (epoch, offset) == (membership.era.epoch, membership.start)
        assert policy == self._truths[group].policy.value
        assert group not in self._streams, "the stream before it has not ended"
        self._streams[group] = membership.at
        self.attendances.begin(group)
        position = Position(epoch, offset)
        moved = not self._events or said.id == self._id_with(group, position)
        if not moved:
            assert said.id == (None if self._ids is None else ",".join(self._ids.values()))
            self._unmoved = group
        elif self._ids is not None:
            self._ids[group] = str(position)
        if membership.due is not None and self._events and self._ids is None:
            # A strict client is closed instead, which tells it of the gap.
            assert not moved or self._strict, "cut off here, it would never be told of its gap"
        self._tell(membership, said, "joined", offset, position)

    def _present(self, said: Said) -> None:
        assert said.group in self._streams, f"{said}: outside of a stream"
        assert said.presence is not None
        assert said.id is None
        self.attendances.take(said.group, said.presence)
        self._digest.update(msgspec.json.encode(said.presence))

    def _left(self, said: Said, position: Position) -> None:
        membership = self._told_membership(said.group)
        assert membership.end is not None
        assert position == Position(membership.era.epoch, self._streams[said.group])
        assert position.offset <= membership.end
        self._move(said, position)
        del self._streams[said.group]
        self.attendances.end(said.group)

    def _message(self, said: Said) -> None:
        group, data = said.group, (said.data or "").encode()
        truth = self._truths[group]
        assert data in truth.positions, f"{said} was never published"
        position = truth.positions[data]
        assert said.offset in (None, position.offset)
        membership = self._next(said, position)
        assert not self._is_own(membership, position.offset), f"{said} excludes this client"
        self._digest.update(b"%d %b" % (position.offset, data))
        self._tell(membership, said, "message", position.offset, position)

    def _delivered(self, said: Said, position: Position) -> None:
        membership = self._next(said, position)
        assert self._is_own(membership, position.offset), f"{said} is for this client"
        self.delivered += 1
        self._digest.update(b"%d delivered" % position.offset)
        self._tell(membership, said, "delivered", position.offset, position)

    def _next(self, said: Said, position: Position) -> Membership:
        """A message is due, in whatever way it is told."""
        membership = self._due(said.group, position.epoch, position.offset, position.offset)
        if position.offset <= membership.until:
            self.recovered += 1
        elif self.prompt:
            when = membership.era.times[position.offset - 1]
            assert trio.current_time() == when, f"{said.group} {position} came late to a client that reads"
        membership.at = position.offset
        membership.messages += 1
        self._move(said, position)
        return membership

    def _is_own(self, membership: Membership, offset: int) -> bool:
        """Whether a message excludes this client."""
        return self.id is not None and membership.era.excludes[offset - 1] == self.id

    def _gap(self, said: Said, gap: SaidGap) -> None:
        group = said.group
        assert not self._strict, "a strict client is told of a gap"
        assert gap.count == gap.last - gap.first + 1
        membership, reason = self._told_membership(group), GapReason(gap.reason)
        membership.decide((gap.first, gap.last, reason))
        first = membership.due is not None
        self._check_missing(group, membership, (gap.first, gap.last, reason))
        if first:
            epochs = (membership.before, membership.era.epoch) if membership.before is not None else None
            assert gap.epochs == epochs, said
        else:
            assert gap.epochs is None
            if reason is GapReason.LOST:
                membership.lost += gap.count
            else:
                membership.missed += gap.count
        position = Position(membership.era.epoch, gap.last)
        membership.at = gap.last
        self.reasons[reason] += 1
        self._move(said, position)
        self._digest.update(b"%d-%d %b" % (gap.first, gap.last, gap.reason.encode()))
        self._tell(membership, said, "gap", gap.first, position, membership.before if first else None)

    def _check_close(self, reason: str) -> None:
        """A strict client is told what it would have missed."""
        match = MISSED.fullmatch(reason)
        if match is not None:
            assert self._strict
            group = match[4]
            membership = self.current(group)  # what it has left, it misses nothing of
            missing = int(match[1]), int(match[2]), GapReason(match[3])
            membership.decide(missing)
            self._check_missing(group, membership, missing)
            self.reasons[GapReason(match[3])] += 1

    def _tell(
        self, membership: Membership, said: Said, what: str, first: int, position: Position, before: str | None = None
    ) -> None:
        self._learn(self._parsed, Learned(membership, said.group, what, first, position, before, said.id))

    def _move(self, said: Said, position: Position) -> None:
        """The event says up to where it brings its client, within the group's stream."""
        if not self.silent:
            assert said.group in self._streams, f"{said}: outside of a stream"
            self._streams[said.group] = position.offset
        if self._events:
            assert said.id == self._id_with(said.group, position), said
            if self._ids is not None:
                self._ids[said.group] = str(position)

    def _id_with(self, group: str, position: Position) -> str:
        if self._ids is None:
            return str(position)
        return ",".join(str(position) if name == group else text for name, text in self._ids.items())

    # What may be

    def _told_membership(self, group: str) -> Membership:
        """The membership whose beginning it has been told last."""
        told = [each for each in self.memberships[group] if each.told]
        assert told, f"{group}: nothing was said of it before"
        return told[-1]

    def _due(self, group: str, epoch: str, first: int, last: int) -> Membership:
        """Return the membership to which the offsets belong, for which they must be what is due."""
        all_of_them = self.memberships[group]
        at = (
            next(each for each in reversed(all_of_them) if first > each.start)
            if self.silent
            else self._told_membership(group)
        )
        assert at.era.epoch == epoch, (group, at)
        assert at.end is None or last <= at.end, f"{group} {last} for {at}: it had left"
        assert first > at.at, f"{group} {first} for {at}: not in order, or twice"
        assert at.due is None, f"{group}, {at}: it has not been told what it missed"
        if not self.silent:
            assert first == at.at + 1, f"{group} {first} for {at}: a hole without a gap"
        elif first > at.at + 1:
            self._pass_hole(group, at, first - 1)
        return at

    def _pass_hole(self, group: str, membership: Membership, last: int) -> None:
        """Who is told nothing has not been given these, which exclude it or are missing."""
        if membership.at < membership.until:
            self._lose_in_recovery(membership, min(last, membership.until))
        while membership.at < last:
            membership.at += 1
            if self._is_own(membership, membership.at):
                membership.own += 1
            elif self._strict or not self._lossy:
                where = f"{group}, {membership}: a hole"
                assert not self._strict, where
                assert self._truths[group].policy not in (Policy.DISCONNECT, Policy.BLOCK), where

    def _lose_in_recovery(self, membership: Membership, last: int) -> None:
        lost = last
        while lost > membership.at and self._is_own(membership, lost):
            lost -= 1
        if lost > membership.at:
            assert not self._strict, f"{membership}: a hole"
            assert lost < membership.era.oldest(trio.current_time()), f"{membership} has a hole where history has none"
        membership.lost += last - membership.at
        membership.at = last

    def _check_missing(self, group: str, membership: Membership, missing: Missing) -> None:
        """What is missing is what comes next, and is missing for this reason."""
        first, last, reason = missing
        where = f"{group} {missing} for {membership}"
        if membership.due is not None:
            assert missing == membership.due, where
            membership.due = None
            return
        if self.silent:
            self._pass_hole(group, membership, first - 1)  # of its own messages it was told nothing
        assert first == membership.at + 1, where
        assert first <= last, where
        assert membership.end is None or last <= membership.end, where
        if first <= membership.until:
            assert reason is GapReason.LOST, where
            assert last <= membership.until, where
            assert last < membership.era.oldest(trio.current_time()), f"{where}: history has it"
        else:
            self._check_loss(self._truths[group], membership, last, reason)

    def _check_loss(self, truth: Truth, membership: Membership, last: int, reason: GapReason) -> None:
        """The policy allows this gap, after `membership.at`, here and now."""
        where = f"{truth.group} {membership.at + 1} to {last}, {reason}"
        era = membership.era
        if reason is GapReason.LOST:
            assert self._lossy, where
            assert last < era.oldest(trio.current_time()), where
        elif reason is GapReason.SUPERSEDED:
            assert truth.policy is Policy.LATEST, where
            keys = era.keys[membership.at : last]
            assert all(era.newest[key] > offset for offset, key in enumerate(keys, membership.at + 1)), where
        else:
            assert reason is GapReason.SLOW, where
            assert truth.policy is not Policy.DISCONNECT, where
            assert truth.policy is not Policy.BLOCK or self._lossy, where
            if truth.policy is not Policy.DROP_NEWEST and not self._lossy:
                assert last <= era.top - truth.settings.max_lag, f"{where}: it did not lag so far"
