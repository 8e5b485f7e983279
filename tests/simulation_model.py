"""What the simulation knows by itself: what was published, who was in which group, and what each client had to see.

Everything is checked the moment that a client's kernel has the bytes; nothing is collected to be looked at later.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import trio

from tests.engines.unkind import UnkindEngine
from tests.transports.strict import CLOSE, TEXT, Frame, Strict
from triocast import GapReason, Message, Policy, Settings
from triocast.core.log import GroupLog
from triocast.engines.memory import MemoryEngine

ECHO = "echo "
"""How what a client is sent by its handler begins."""


class Truth:
    """Every message of one group that got a position, also of publishers that had gone by then; offsets begin at 1."""

    def __init__(self, group: str, settings: Settings) -> None:
        self.group = group
        self.settings = settings.for_group(group)
        self.policy = self.settings.policy
        self.data: list[bytes] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.offsets: dict[bytes, int] = {}
        self.newest: dict[str | None, int] = {}  # of each key
        self.acknowledged = 0  # the highest offset with a receipt

    @property
    def top(self) -> int:
        return len(self.data)

    def add(self, message: Message, now: float) -> None:
        self.data.append(message.data)
        self.keys.append(message.key)
        self.times.append(now)
        assert message.offset == self.top
        assert message.data not in self.offsets
        self.offsets[message.data] = self.newest[message.key] = message.offset


class Recorded(MemoryEngine):
    """The memory engine, telling `truths` of every position it gives, in the step of giving it."""

    truths: dict[str, Truth]

    def _keep(self, log: GroupLog, message: Message, now: float) -> None:
        self.truths[message.group].add(message, now)
        super()._keep(log, message, now)


class RecordedUnkind(Recorded, UnkindEngine):
    """The same of the engine that misdelivers."""


@dataclass
class Membership:
    """From joining to leaving one group. `at` is what the client has been told up to, by a message or a gap."""

    start: int  # nothing up to this offset is owed
    at: int = field(init=False)
    end: int | None = None  # nothing after this offset may come; None: still a member
    messages: int = 0
    missed: int = 0  # messages that gaps named, because of the policy
    lost: int = 0  # likewise, because the engine had them no longer

    def __post_init__(self) -> None:
        self.at = self.start


class View:
    """One client's view: every byte it is given goes through `take`, which checks it against the truths.

    `silent` clients are given payloads only, so gaps are holes to them; a `prompt` one is given everything the
    moment that it is published.
    """

    def __init__(self, truths: dict[str, Truth], *, silent: bool, prompt: bool, lossy: bool) -> None:
        self.silent = silent
        self.closed: Frame | None = None
        self.memberships: dict[str, list[Membership]] = {}
        self.reasons: Counter[GapReason] = Counter()
        self.told = 0
        self._truths = truths
        self._prompt = prompt
        self._lossy = lossy  # the engine may lose messages
        self._strict = Strict()
        self._echoes = 0
        self._streams: dict[str, int] = {}  # that have begun and not ended, and how far they were told
        self._digest = hashlib.sha256()

    # What the simulation does with it

    def join(self, group: str, start: int) -> None:
        self.memberships.setdefault(group, []).append(Membership(start))

    def current(self, group: str) -> Membership:
        return self.memberships[group][-1]

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    def take(self, data: bytes) -> None:
        """Bytes are with the client's kernel."""
        assert self.closed is None, "bytes after the Close frame"
        frames = None if self._strict.halfway else _whole_frames(data)
        for each in self._strict.feed(data) if frames is None else frames:
            self._take_frame(each)

    def check_complete(self, group: str, missed: int) -> None:
        """A member that could take everything has been told everything, but for `missed` messages."""
        membership, top = self.current(group), self._truths[group].top
        unseen = top - membership.start - membership.messages
        where = f"{group} at {top}: {membership}, missed {missed}"
        if not self.silent:
            assert membership.at == top, where
            assert (membership.missed, membership.missed + membership.lost) == (missed, unseen), where
        elif self._lossy:
            assert missed <= unseen, where
        else:
            assert missed == unseen, where

    def check_streams(self, members: Iterable[str]) -> None:
        """It has been told of every beginning and every end."""
        assert self.silent or set(self._streams) == set(members)

    # What it is told

    def _take_frame(self, frame: Frame) -> None:
        self.told += 1
        if frame.opcode == CLOSE:
            self.closed = frame
            return
        assert frame.opcode == TEXT
        if frame.payload.startswith(ECHO.encode()):
            self._echoes += 1
            assert frame.payload.decode() == f"{ECHO}{self._echoes}"
        elif self.silent:
            group = frame.payload.partition(b"|")[0].decode()
            self._message(group, self._truths[group].offsets[frame.payload], frame.payload)
        else:
            self._object(_Object.read(frame.payload))

    def _object(self, told: _Object) -> None:
        if told.joined is not None:
            # Perhaps not of the current one: who is slow may have left and come back since it was written.
            begun = [each for each in self.memberships[told.group] if each.start == told.joined.offset]
            assert any(each.at == each.start for each in begun)
            assert told.joined.policy == self._truths[told.group].policy.value
            assert told.group not in self._streams, "the stream before it has not ended"
            self._streams[told.group] = told.joined.offset
        elif told.left is not None:
            assert self._streams.pop(told.group) == told.left.offset
            assert any(each.end is not None and told.left.offset <= each.end for each in self.memberships[told.group])
        elif told.gap is not None:
            self._gap(told.group, told.gap)
        else:
            assert told.offset is not None
            assert told.data is not None
            self._message(told.group, told.offset, told.data.encode())

    def _message(self, group: str, offset: int, data: bytes) -> None:
        truth, membership = self._truths[group], self._due(group, offset, offset)
        assert data == truth.data[offset - 1]
        if self._prompt:
            assert trio.current_time() == truth.times[offset - 1], f"{group} {offset} came late to a client that reads"
        membership.at = offset
        membership.messages += 1
        self._go_on(group, offset)
        self._digest.update(b"%d %b" % (offset, data))

    def _gap(self, group: str, gap: _Gap) -> None:
        membership = self._due(group, gap.first, gap.last)
        assert gap.count == gap.last - gap.first + 1
        reason = GapReason(gap.reason)
        self._check_loss(self._truths[group], membership, gap.last, reason)
        membership.at = gap.last
        self._go_on(group, gap.last)
        if reason is GapReason.LOST:
            membership.lost += gap.count
        else:
            membership.missed += gap.count
        self.reasons[reason] += 1
        self._digest.update(b"%d-%d %b" % (gap.first, gap.last, gap.reason.encode()))

    def _go_on(self, group: str, offset: int) -> None:
        if not self.silent:
            assert group in self._streams, f"{group} {offset}: outside of a stream"
            self._streams[group] = offset

    def _due(self, group: str, first: int, last: int) -> Membership:
        """Return the membership to which the offsets belong, for which they must be what is due."""
        at = next(each for each in reversed(self.memberships[group]) if first > each.start)
        where = f"{group} {first} to {last} for {at}"
        assert at.end is None or last <= at.end, f"{where}: it had left"
        assert first > at.at, f"{where}: not in order, or twice"
        if not self.silent:
            assert first == at.at + 1, f"{where}: a hole without a gap"
        elif first > at.at + 1 and not self._lossy:
            assert self._truths[group].policy not in (Policy.DISCONNECT, Policy.BLOCK), f"{where}: a hole"
        return at

    def _check_loss(self, truth: Truth, membership: Membership, last: int, reason: GapReason) -> None:
        """The policy allows this gap, after `membership.at`, here and now."""
        where = f"{truth.group} {membership.at + 1} to {last}, {reason}"
        if reason is GapReason.LOST:
            assert self._lossy, where
        elif reason is GapReason.SUPERSEDED:
            assert truth.policy is Policy.LATEST, where
            keys = truth.keys[membership.at : last]
            assert all(truth.newest[key] > offset for offset, key in enumerate(keys, membership.at + 1)), where
        else:
            assert truth.policy is not Policy.DISCONNECT, where
            assert truth.policy is not Policy.BLOCK or self._lossy, where
            if truth.policy is not Policy.DROP_NEWEST and not self._lossy:
                assert last <= truth.top - truth.settings.max_lag, f"{where}: it did not lag so far"


class Window:
    """How many members a group had at least and at most while somebody looked."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high


class Census:
    """How many members one group has: surely (`low`), and with those who are on their way out (`high`)."""

    def __init__(self) -> None:
        self.low = self.high = 0
        self._windows: dict[Window, None] = {}

    def change(self, low: int, high: int) -> None:
        self.low += low
        self.high += high
        for window in self._windows:
            # Who goes may have gone a moment before it is noted, when somebody who has come since was not there yet.
            window.low += min(low, 0)
            window.high += max(high, 0)

    @contextmanager
    def watch(self) -> Iterator[Window]:
        window = Window(self.low, self.high)
        self._windows[window] = None
        try:
            yield window
        finally:
            del self._windows[window]


class _Gap(msgspec.Struct, frozen=True):
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    count: int
    reason: str


class _Joined(msgspec.Struct, frozen=True):
    offset: int
    policy: str


class _Left(msgspec.Struct, frozen=True):
    offset: int


class _Object(msgspec.Struct, frozen=True):
    group: str
    offset: int | None = None
    data: str | None = None
    gap: _Gap | None = None
    joined: _Joined | None = None
    left: _Left | None = None

    @staticmethod
    @lru_cache(4096)  # all clients are written the same bytes
    def read(payload: bytes) -> _Object:
        return msgspec.json.decode(payload, type=_Object)


@lru_cache(4096)
def _whole_frames(data: bytes) -> list[Frame] | None:
    """Return the frames that `data` is; None if it does not end with one."""
    strict = Strict()
    frames = strict.feed(data)
    return None if strict.halfway else frames
