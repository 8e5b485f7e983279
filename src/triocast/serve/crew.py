"""The workers of a server: keeps as many running as there should be, puts new ones in their place, and sends them home.

It hears no signals and opens no sockets; the supervisor does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import count

import trio

from triocast.errors import TriocastError
from triocast.serve.backoff import Backoff
from triocast.serve.house import SOCKET, House
from triocast.serve.order import Inherited, Order
from triocast.serve.process import WorkerProcess, describe_end, start_process
from triocast.settings import Settings

STARTING = 60.0  # seconds for a worker to accept connections; it takes one, on a busy machine several
LATE = 1.0  # seconds beyond grace after which a worker is killed: it was to be gone by then
REAPING = 5.0  # seconds for the kernel to end what was killed

logger = logging.getLogger("triocast.serve")


class WorkersFailed(TriocastError):
    """A worker ended before it had ever accepted connections, and the next one would too."""

    code = "workers_failed"


class Place:
    """The place of one worker, and who is in it: nobody for a moment when one has died."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: WorkerProcess | None = None
        self.going: WorkerProcess | None = None
        self.changing = trio.Lock()
        self.backoff = Backoff()


class Crew:
    """The workers; each is started by `command` and has `settings`, which may be replaced for those that come."""

    def __init__(
        self, settings: Settings, command: Sequence[str], house: House, listening: Sequence[Inherited], held: list[int]
    ) -> None:
        self.settings = settings
        self._command = command
        self._house = house
        self._listening = tuple(listening)
        self._held = held
        self._places = [Place(number) for number in range(1, settings.workers + 1)]
        self._serial = count(1)
        self._processes: set[WorkerProcess] = set()
        self._up = trio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Start the workers, call `ready` once all accept connections, and start each anew that dies, until cancelled.

        Raises `WorkersFailed` if one can't be started the first time.
        """
        self._write_roster()
        async with trio.open_nursery() as nursery:
            for place in self._places:
                nursery.start_soon(self._begin, place)
        ready()
        self._up.set()
        async with trio.open_nursery() as nursery:
            for place in self._places:
                nursery.start_soon(self._keep, place)

    async def renew(self) -> None:
        """Put a new worker in the place of each, one place after the other: the new one accepts before the old one is
        told to leave. If a new one does not start, the rest stay. Waits until the first ones are there."""
        await self._up.wait()
        logger.info("rolling restart", extra={"workers": len(self._places)})
        for place in self._places:
            if not await self._replace(place):
                logger.error("the new worker %d did not start; the old ones go on", place.number)
                return
        logger.info("rolling restart done")

    async def leave(self) -> None:
        """Tell all workers to leave, and return when they have: `grace` and a second later at the latest."""
        processes = [process for process in self._processes if process.running]
        for process in processes:
            process.tell_to_go()
        async with trio.open_nursery() as nursery:
            for process in processes:
                nursery.start_soon(self._see_off, process)

    async def end_at_once(self) -> None:
        """Kill whoever is left."""
        for process in self._processes:
            process.kill()
        with trio.move_on_after(REAPING, shield=True):
            for process in self._processes:
                await process.wait()

    async def _begin(self, place: Place) -> None:
        process = place.current = await self._start(place.number)
        self._write_roster()
        if process is None:
            raise WorkersFailed(f"worker {place.number} can't be started; why stands above")
        if not await self._accepts(process):
            code = await self._end(process)
            raise WorkersFailed(
                f"worker {place.number} {describe_end(code)} before it accepted connections; what it said stands above"
            )

    async def _keep(self, place: Place) -> None:
        while True:
            async with place.changing:
                process = place.current
            if process is None:
                await trio.sleep(await self._refill(place))
                continue
            code = await process.wait()
            if place.current is process:
                place.current = None
                logger.error(
                    "worker %d %s; it is started again",
                    place.number,
                    describe_end(code),
                    extra={"worker": place.number},
                )
                self._forget(process)
                await trio.sleep(place.backoff.after(trio.current_time() - process.started))

    async def _refill(self, place: Place) -> float:
        """Start a worker where there is none; returns the seconds until that is worth another attempt."""
        async with place.changing:
            if place.current is not None:
                return 0  # a rolling restart has been here
            process = place.current = await self._start(place.number)
            self._write_roster()
            if process is None:
                return place.backoff.after(0)
            if not await self._accepts(process):
                process.kill()  # its end is for `_keep` to see
            return 0

    async def _replace(self, place: Place) -> bool:
        """Put a new worker in place of the old one; False if it does not start: then the old one stays."""
        async with place.changing:
            process = await self._start(place.number)
            if process is None:
                return False
            if not await self._accepts(process):
                code = await self._end(process)
                logger.error("worker %d %s before it accepted connections", place.number, describe_end(code))
                return False
            place.going, place.current = place.current, process
        self._write_roster()
        if place.going is not None:
            place.going.tell_to_go()
            await self._see_off(place.going)
            place.going = None
            self._write_roster()
        return True

    async def _start(self, number: int) -> WorkerProcess | None:
        """Start a process; None, having said why, if the system has no room for one: the others go on."""
        socket = f"{next(self._serial)}{SOCKET}"
        order = Order(self.settings, number, str(self._house.path), socket, self._listening, report=-1)
        try:
            process = await start_process(self._command, order, self._held)
        except OSError as error:
            logger.error("worker %d can't be started: %s", number, error, extra={"worker": number})  # noqa: TRY400
            return None
        self._processes.add(process)
        return process

    async def _accepts(self, process: WorkerProcess) -> bool:
        with trio.move_on_after(STARTING):
            return await process.instruct()
        logger.error("worker %d took more than %g s to start", process.order.number, STARTING)
        return False

    async def _see_off(self, process: WorkerProcess) -> None:
        with trio.move_on_after(process.order.settings.grace + LATE):
            await process.wait()
        if process.running:
            logger.warning("worker %d outlived the grace time and is killed", process.order.number)
        await self._end(process)

    async def _end(self, process: WorkerProcess) -> int:
        process.kill()
        code = await process.wait()
        self._forget(process)
        return code

    def _forget(self, process: WorkerProcess) -> None:
        self._processes.discard(process)
        self._house.leave(process.order.socket, orphaned=False)  # which it did itself, unless it was killed

    def _write_roster(self) -> None:
        roster: dict[str, str] = {}
        for place in self._places:
            roster[str(place.number)] = place.current.order.socket if place.current is not None else "nobody"
            if place.going is not None:
                roster[f"{place.number}-leaving"] = place.going.order.socket
        try:
            self._house.write_roster(roster)
        except OSError as error:  # a full disk is no reason to end
            logger.warning("/metrics may not tell of every worker: the roster can't be written: %s", error)
