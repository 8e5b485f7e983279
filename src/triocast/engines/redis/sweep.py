"""Strikes members off that nobody else does: those whose grace is over, and those of processes that are dead.

Every process does so for all; who comes first tells its host. It shows at the same time that this process lives.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from triocast.core.presence import Reason
from triocast.engines import Host
from triocast.engines.redis.book import BATCH, Answer, lost_or_due, news_of
from triocast.engines.redis.keys import PARTITIONS
from triocast.engines.redis.roll_store import LOST, Look, RollStore, Strike
from triocast.engines.redis.rollcall import Rollcall
from triocast.errors import EngineError, EngineUnavailable, UnknownOutcome

EVERY = 1.0  # seconds between two sweeps
SLICES = 2  # sweeps in which all partitions are looked at: a process shows every two seconds that it lives
SILENT = 10.0  # seconds until a process is dead that does not
GAP = 5.0  # seconds without a look after which the others are given all that time anew: we were away, or the server was
AGAIN = 0.25  # seconds until what failed is tried again

logger = logging.getLogger("triocast.redis")


class Silence:
    """Which processes have shown nothing new of themselves for too long, as seen from here: a partition's.

    Nobody's clock but ours is believed, and only as long as we look: who was cut off with us has time to come back.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._seen: dict[str, tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"<Silence of {len(self._seen)} processes>"

    def dead(self, told: Mapping[str, str], now: float) -> dict[str, str]:
        """Take what each process has shown, and return those that are dead, with that."""
        known = self._seen if now - self._looked < GAP else {}
        self._looked = now
        self._seen = {}
        for process, shown in told.items():
            before, since = known.get(process, ("", now))
            self._seen[process] = shown, since if shown == before else now
        return {
            process: shown for process, (shown, since) in self._seen.items() if shown == LOST or now - since >= SILENT
        }


class Sweep:
    """`run` it beside the rollcall."""

    def __init__(self, store: RollStore, process: str, rollcall: Rollcall) -> None:
        self._store = store
        self._process = process
        self._rollcall = rollcall
        self._silences = {partition: Silence() for partition in range(PARTITIONS)}
        self._busy: set[int] = set()
        self._beats = 0
        self._strikes = 0

    def __repr__(self) -> str:
        return f"<Sweep of {self._process}, {len(self._busy)} partitions busy>"

    async def run(self, host: Host) -> None:
        """Look at a slice of the partitions every second until cancelled."""
        self._busy.clear()
        async with trio.open_nursery() as nursery:
            while True:
                began = trio.current_time()
                self._beats += 1
                for partition in self._partitions(began) - self._busy:
                    self._busy.add(partition)
                    nursery.start_soon(self._sweep, partition, host)
                await trio.sleep_until(began + EVERY)

    async def _sweep(self, partition: int, host: Host) -> None:
        try:
            await self._look(partition, host)
        except EngineError as error:
            logger.debug("partition %d can't be looked at: %s", partition, error)
        finally:
            self._busy.discard(partition)

    def _partitions(self, now: float) -> set[int]:
        """Return those that it is time to look at: a slice, and where a grace may be over."""
        graces = self._rollcall.graces
        for partition in [each for each, until in graces.items() if until < now - 2 * EVERY]:
            del graces[partition]
        return {*range(self._beats % SLICES, PARTITIONS, SLICES), *graces}

    async def _look(self, partition: int, host: Host) -> None:
        look = await self._look_once(partition)
        dead = self._silences[partition].dead(look.processes, trio.current_time())
        while look.due:
            await self._strike(partition, Strike(self._number(), look.due), host)
            if len(look.due) < BATCH:
                break
            look = await self._look_once(partition)
        for process, shown in dead.items():
            if process != self._process:
                await self._bury(partition, process, shown, host)

    async def _look_once(self, partition: int) -> Look:
        expected = self._rollcall.expects(partition)
        look = await self._store.look(partition, self._beats, BATCH)
        self._rollcall.judge(partition, expected, look.mark)
        return look

    async def _bury(self, partition: int, process: str, shown: str, host: Host) -> None:
        """Strike off all members of a process, unless it shows that it lives."""
        logger.info("process %s is silent: its members are lost", process, extra={"partition": partition})
        while True:
            places = await self._store.members_of(partition, process, BATCH)
            buried = await self._strike(partition, Strike(self._number(), places, process, shown), host)
            if not buried or len(places) < BATCH:
                return
            shown = LOST

    async def _strike(self, partition: int, strike: Strike, host: Host) -> bool:
        """Strike some off; whether that was done."""
        answer = await self._strike_surely(partition, strike)
        if answer is None:
            return False
        reason = Reason.LEFT if strike.process is None else Reason.LOST
        told = lost_or_due([group for group, _ in strike.places], answer.results, reason)
        for news in news_of(told, answer.counts):
            host.noticed(news.group, news.changes, occupied=False, vacated=news.vacated)
        return True

    async def _strike_surely(self, partition: int, strike: Strike) -> Answer | None:
        """Ask again if the answer was lost: what was done then nobody else can tell the application."""
        unsure = False
        while True:
            try:
                return await self._store.strike(partition, strike)
            except UnknownOutcome:
                unsure = True
            except EngineUnavailable:
                if not unsure:
                    raise
            await trio.sleep(AGAIN)

    def _number(self) -> str:
        self._strikes += 1
        return str(self._strikes)
