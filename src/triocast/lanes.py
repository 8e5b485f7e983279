"""The caught-up members of a group, by format, and the round that gives them what is new.

It writes only to sockets that take it at once; whoever does not is woken to do it in its own time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import trio

from triocast.core.message import Gap
from triocast.core.wire import Format, Told
from triocast.subscription import Stream

SLICE = 128  # members served between two looks at the clock
SMALL_SLICE = 8  # the same of a gentle round, one frame of which may be as large as a write
_Stream = TypeVar("_Stream", bound=Stream)

ROUND = 0.005  # seconds a round works before others get a turn; a slower event loop is felt by every client
# The same of a gentle round. A message needs some eight turns from its publisher to its clients, and the round of it
# should not be kept waiting by something in which nobody is in a hurry.
GENTLE_ROUND = 0.0005


class Lanes(Generic[_Stream]):
    """Parked streams of one kind. One lane a format, because the members of a lane are written the same bytes.

    Rounds of `gentle` ones give others many more turns.
    """

    def __init__(self, *, gentle: bool = False) -> None:
        self._slice, self._round = (SMALL_SLICE, GENTLE_ROUND) if gentle else (SLICE, ROUND)
        self._lanes: dict[Format, dict[_Stream, None]] = {}  # dicts, not sets: the same order in every run
        self.busy: dict[_Stream, None] = {}
        """Members that have something to take, or are writing it."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def park(self, subscription: _Stream) -> None:
        """Take in a subscription that has been given everything."""
        self.busy.pop(subscription, None)
        self._lanes.setdefault(subscription.follower.format, {})[subscription] = None

    def hand_over(self, subscription: _Stream) -> None:
        """Take in a subscription that its follower has to begin, and wake that."""
        self.hold(subscription)
        subscription.follower.wake(subscription)

    def hold(self, subscription: _Stream) -> None:
        """Take in a subscription that is not given anything yet."""
        self.busy[subscription] = None

    def remove(self, subscription: _Stream) -> None:
        """Let a subscription go; harmless if it is not here."""
        self.busy.pop(subscription, None)
        self._lanes.get(subscription.follower.format, {}).pop(subscription, None)

    def set_aside(self, subscription: _Stream) -> None:
        """Leave a subscription out of the next round: its follower is woken to read from the log what is its own.

        Harmless if it is not parked.
        """
        lane = self._lanes.get(subscription.follower.format, {})
        if subscription in lane:
            self._wake(lane, subscription)

    async def serve(self, start: int, top: int, entries: Sequence[Told]) -> int:
        """Give `entries`, which lead from the offset `start` to `top`, to everybody who has been given all before them,
        and return how many took them at once.

        Who came meanwhile has them already; who left gets nothing.
        """
        until = trio.current_time() + self._round
        served = 0
        with_gap = any(isinstance(entry, Gap) for entry in entries)  # what it means to a member, its follower knows
        for form, lane in list(self._lanes.items()):
            data = b"".join(map(form.frame, entries)) if len(entries) > 1 else form.frame(entries[0])
            for members in _slices(list(lane), self._slice):
                if with_gap:
                    self._wake_slice(lane, members, start)
                else:
                    served += self._serve_slice(lane, members, start, top, data)
                if trio.current_time() >= until:
                    await trio.lowlevel.checkpoint()
                    until = trio.current_time() + self._round
        return served

    def _serve_slice(self, lane: dict[_Stream, None], members: list[_Stream], start: int, top: int, data: bytes) -> int:
        """The hottest loop there is: every look at a member's objects counts, which is why what is rare comes last, and
        those are counted who did not take."""
        size = len(data)
        passed = 0
        for member in members:
            outlet = member.outlet
            if member.cursor != start or outlet is None or not outlet.ready:
                passed += 1
                if member.cursor == start and member.active:
                    self._wake(lane, member)
                continue
            try:
                taken = outlet.send(data)
            except BlockingIOError:
                taken = 0
                outlet.fill()
            except OSError:
                taken = 0
                outlet.lose()
            if taken == size:
                member.cursor = top
                continue
            if taken:  # a frame that was begun is given; its rest goes first, in the member's own time
                member.cursor = top
                outlet.keep(memoryview(data)[taken:])
            else:
                passed += 1
            self._wake(lane, member)
        return len(members) - passed

    def _wake_slice(self, lane: dict[_Stream, None], members: list[_Stream], start: int) -> None:
        for member in members:
            if member.cursor == start and member in lane:
                self._wake(lane, member)

    def _wake(self, lane: dict[_Stream, None], member: _Stream) -> None:
        lane.pop(member, None)
        self.busy[member] = None
        member.follower.wake(member)


def _slices(members: list[_Stream], size: int) -> Iterator[list[_Stream]]:
    for index in range(0, len(members), size):
        yield members[index : index + size]
