"""What one client is written: the cursors of its groups, brought forward in turn by a task of its own.

It joins and leaves nothing; its connection does.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

import trio

from triocast.bell import Bell
from triocast.core.message import Gap, GapReason
from triocast.core.wire import Joined, Left, Told
from triocast.errors import CRASHED, MISSED, Close, EngineError, EngineUnavailable, UnknownOutcome
from triocast.group import WRITE_BUDGET
from triocast.meters import Eviction
from triocast.pauses import FIRST_PAUSE, drawn, longer
from triocast.subscription import Given, Subscription
from triocast.transport import Transport
from triocast.watchers import Watch

Ready = Subscription | Watch | Left
"""What can wait to be written."""

logger = logging.getLogger("triocast.connection")


class Owner(Protocol):
    """What it needs of its connection."""

    def end(self, close: Close) -> None:
        """End the connection, telling its client why."""

    def leave_groups(self) -> None:
        """Leave every group: nothing can be sent any more."""


class Outbound:
    """One client's writing. A `strict` client is ended instead of being told of a gap.

    The task begins with the first group that has something: most clients keep up, and the broadcaster writes to them.
    """

    def __init__(self, transport: Transport, *, strict: bool) -> None:
        self._transport = transport
        self._strict = strict
        self._ready: OrderedDict[Ready, None] = OrderedDict()  # in the order they were woken
        # Still to be told, before anything else of the group; and the watch that begins behind it.
        self._greetings: dict[Subscription, tuple[Joined, Watch | None]] = {}
        self._later: dict[Subscription, float] = {}  # the engine can't be reached for them: when to try again
        self._pause = FIRST_PAUSE
        self._work = Bell()  # where the task rests
        self._writing = False
        # While the task can be started; its owner only that long, or they would keep each other.
        self._place: tuple[trio.Nursery, Owner] | None = None
        self.turn = trio.Lock()
        """Held by whoever writes through the transport."""

    def __len__(self) -> int:
        """How many groups wait to be written, those that were left and not yet said goodbye to included."""
        return len(self._ready) + len(self._later)

    def __repr__(self) -> str:
        return f"<Outbound {len(self)} waiting, {len(self._greetings)} to be greeted>"

    def run_in(self, nursery: trio.Nursery, owner: Owner) -> None:
        """Write in a task of `nursery`, from when there is something to write until `stop`."""
        self._place = nursery, owner
        if self._ready:
            self._start(*self._place)

    def stop(self) -> None:
        """Start no task any more; one that runs ends with its nursery."""
        self._place = None

    def wake(self, stream: Subscription | Watch) -> None:
        """Take note that there is something to take."""
        if isinstance(stream, Subscription):
            self._later.pop(stream, None)
        self._put(stream)

    def greet(self, subscription: Subscription, greeting: Joined, watch: Watch | None = None) -> None:
        """Tell the client this before anything of the group, and then what `watch` has."""
        self._greetings[subscription] = greeting, watch

    def part(self, subscription: Subscription, why: Close | None = None) -> bool:
        """Tell the client, before anything else of the group, that its stream has ended, and why if somebody wanted
        that; call it before the end. Returns whether it can be told.

        A client that has not been told of the beginning is told nothing. So one notice a group can wait: the beginning
        of a group that is joined again waits behind it.
        """
        tells = self._transport.format.greets and subscription not in self._greetings
        if tells:
            group = subscription.group
            self._put(Left(group.name, group.log.epoch, subscription.given, why))
        return tells

    def forget(self, stream: Subscription | Watch) -> None:
        """Write nothing more of it; a stalled client that comes and goes must not fill the queue."""
        self._ready.pop(stream, None)
        if isinstance(stream, Subscription):
            self._later.pop(stream, None)
            self._greetings.pop(stream, None)

    def _put(self, ready: Ready) -> None:
        self._ready[ready] = None
        if self._work.awaited:
            self._work.ring()
        elif self._place is not None and not self._writing:
            self._start(*self._place)

    def _start(self, nursery: trio.Nursery, owner: Owner) -> None:
        self._writing = True
        nursery.start_soon(self._write, owner)

    async def _write(self, owner: Owner) -> None:
        """Bring the cursors of groups that have something forward, one group after the other."""
        while True:
            if self._later:
                self._take_up()
            while not self._ready:
                await self._rest()
            ready, _ = self._ready.popitem(last=False)
            try:
                if isinstance(ready, Left):
                    await self._write_one(ready)
                elif isinstance(ready, Watch):
                    await self._write_presence(ready)
                else:
                    await self._write_some(ready, owner)
            except trio.BrokenResourceError:
                # The reader learns the same from the transport, with the code.
                owner.leave_groups()
                return
            except (EngineUnavailable, UnknownOutcome):
                self._put_off(ready)
                continue
            except EngineError as error:
                logger.warning("a client could not be given what it missed: %s", error)
                owner.end(CRASHED)
                return
            if not isinstance(ready, Left) and not ready.settle():
                self._ready[ready] = None

    async def _rest(self) -> None:
        """Wait until somebody has something, or what was put off is due."""
        if not self._later:
            await self._work.wait()
            return
        with trio.CancelScope(deadline=min(self._later.values())):
            await self._work.wait()
        self._take_up()

    def _take_up(self) -> None:
        now = trio.current_time()
        for subscription in [each for each, due in self._later.items() if due <= now]:
            del self._later[subscription]
            self._ready[subscription] = None

    def _put_off(self, ready: Ready) -> None:
        """Try again later; until then its other groups have their turn, and of this one its policy holds: who falls too
        far behind the live messages meanwhile is dealt with as if it did not read."""
        if isinstance(ready, Subscription) and ready.active and ready not in self._ready:
            self._later[ready] = trio.current_time() + drawn(self._pause)
            self._pause = longer(self._pause)

    async def _write_one(self, told: Told) -> None:
        async with self.turn:
            await self._transport.wait_writable()
            await self._transport.send([told])

    async def _write_presence(self, watch: Watch) -> None:
        async with self.turn:
            await self._transport.wait_writable()
            events = watch.take()
            if events:
                await self._transport.send(events)

    async def _write_some(self, subscription: Subscription, owner: Owner) -> None:
        async with self.turn:  # also a checkpoint: a transport that never waits can't keep the event loop
            await self._transport.wait_writable()
            # Taken only now: who waits for a stalled client holds nothing, and what is taken is the newest there is.
            recovered = await self._recover(subscription) if subscription.recovery else None
            if not subscription.active:  # left while history was read
                return
            greeting, watch = self._greetings.pop(subscription, (None, None))
            coming = subscription.take(WRITE_BUDGET, self._transport.limit) if recovered is None else recovered
            entries: list[Told] = [*([greeting] if greeting else ()), *coming]
            missed = self._missed(entries, excused=recovered is not None and not self._counts(subscription))
            if missed is not None:
                entries = entries[: entries.index(missed)]
                if entries == [greeting]:  # it would move the client's position past what is missing
                    entries = []
            if entries:
                await self._transport.send(entries)
            if watch is not None and watch.active:
                self.wake(watch)
            if missed is not None and subscription.active:  # else it was left while it was written to
                _end_missing(subscription, missed, owner)

    async def _recover(self, subscription: Subscription) -> list[Given]:
        recovered = await subscription.recover(WRITE_BUDGET, self._transport.limit)
        self._pause = FIRST_PAUSE
        return recovered

    def _missed(self, entries: Iterable[Told], *, excused: bool) -> Gap | None:
        """Return the first gap for which its client is ended; `excused` is what last values supersede."""
        gaps = (entry for entry in entries if self._strict and isinstance(entry, Gap))
        return next((gap for gap in gaps if not (excused and gap.reason is GapReason.SUPERSEDED)), None)

    def _counts(self, subscription: Subscription) -> bool:
        """Whether the client counts its messages, and was told from where."""
        return subscription.counted and not self._transport.format.greets


def _end_missing(subscription: Subscription, missed: Gap, owner: Owner) -> None:
    subscription.group.evicted += 1
    subscription.group.meters.evict(Eviction.MISSED)
    reason = f"missed {missed.first} to {missed.last} ({missed.reason.value}), come back: {missed.group}"
    owner.end(MISSED.because(reason))
