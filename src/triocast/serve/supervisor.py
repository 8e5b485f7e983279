"""The supervisor of several workers: makes the sockets that they inherit, and their Valkey, and hears the signals.

It serves nobody itself, so that nothing a client does can bring it down.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from triocast.engines.choice import check_installed
from triocast.errors import SettingsError
from triocast.serve.crew import Crew
from triocast.serve.house import House, open_house
from triocast.serve.listeners import Bound, open_sockets, tls_context
from triocast.serve.loop import announce, only_leaf, raise_file_limit
from triocast.serve.order import Inherited
from triocast.serve.process import worker_command
from triocast.serve.valkey import Valkey, find_binary
from triocast.settings import Settings

DATA = "data"
# What the supervisor has made already, and new workers can't change.
FIXED = ("bind", "workers", "engine", "data_dir", "log_level", "log_format")

logger = logging.getLogger("triocast.serve")


def supervise(
    settings: Settings, reload: Callable[[], Settings] | None = None, command: Sequence[str] | None = None
) -> int:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM and return 0; a second signal ends all at once.

    On SIGHUP the workers are replaced one after the other, and have the settings that `reload` returns. `command`
    starts a worker, if it is not our own. Raises `CannotListen`, `SettingsError`, `ValkeyFailed`, `WorkersFailed`.
    """
    raise_file_limit()
    try:
        trio.run(Supervisor(settings, reload, command or worker_command()).run)
    except BaseExceptionGroup as group:
        leaf = only_leaf(group)
        if isinstance(leaf, _SecondSignal):
            signal.signal(leaf.number, signal.SIG_DFL)
            os.kill(os.getpid(), leaf.number)
        raise leaf from group
    return 0


class Supervisor:
    """What `supervise` runs."""

    def __init__(self, settings: Settings, reload: Callable[[], Settings] | None, command: Sequence[str]) -> None:
        self._settings = settings
        self._reload = reload
        self._command = command
        self._renewal = trio.Event()

    async def run(self) -> None:
        """Serve until told to stop, and leave in order; whatever happens, nothing of it is left running."""
        tls_context(self._settings)  # if it can't be used that is said once, and not by every worker
        async with open_sockets(self._settings) as bound:
            with open_house() as house, trio.open_signal_receiver(*_SIGNALS) as signals:
                valkey = self._make_valkey(house)
                crew = self._make_crew(house, bound, valkey)
                try:
                    await self._run_until_told(signals, crew, valkey, bound)
                    await self._leave(signals, crew, valkey, bound)
                finally:
                    await crew.end_at_once()
                    if valkey is not None:
                        valkey.let_go()
        logger.info("stopped")

    def _make_valkey(self, house: House) -> Valkey | None:
        if self._settings.engine is not None:
            return None
        kept = self._settings.data_dir
        data = house.path / DATA if kept is None else Path(kept).absolute()
        return Valkey(find_binary(), house, data, fleeting=kept is None)

    def _make_crew(self, house: House, bound: Sequence[Bound], valkey: Valkey | None) -> Crew:
        settings = _for_workers(self._settings, valkey)
        check_installed(settings)  # said once, as above
        listening = [Inherited(each.socket.fileno(), str(each.address)) for each in bound]
        held = [house.lock] if valkey is None else [house.lock, valkey.held]
        return Crew(settings, self._command, house, listening, held)

    async def _run_until_told(
        self, signals: AsyncIterator[int], crew: Crew, valkey: Valkey | None, bound: Sequence[Bound]
    ) -> None:
        addresses = [each.address for each in bound]
        async with trio.open_nursery() as running:
            running.start_soon(self._work, crew, valkey, lambda: announce(self._settings, addresses))
            running.start_soon(self._renew_when_asked, crew, valkey)
            name = await self._hear(signals)
            logger.info("stopping", extra={"signal": name})
            running.cancel_scope.cancel()

    async def _work(self, crew: Crew, valkey: Valkey | None, ready: Callable[[], None]) -> None:
        if valkey is not None:
            await valkey.start()
            kept = self._settings.data_dir or "nowhere: it ends with the server (data_dir keeps it)"
            logger.info("the workers share a Valkey of their own", extra={"kept": kept})
        async with trio.open_nursery() as nursery:
            if valkey is not None:
                nursery.start_soon(valkey.keep)
            nursery.start_soon(crew.run, ready)

    async def _hear(self, signals: AsyncIterator[int]) -> str:
        """Return the name of the signal that ends the server; SIGHUP asks for new workers."""
        terminal = _has_terminal()
        async for number in signals:
            if number == signal.SIGHUP and not (terminal and not _has_terminal()):
                self._renewal.set()
            else:
                return signal.Signals(number).name
        raise AssertionError("signals never end")

    async def _renew_when_asked(self, crew: Crew, valkey: Valkey | None) -> None:
        while True:
            await self._renewal.wait()
            self._renewal = trio.Event()  # asked once more while it happens, it happens once more
            if self._read_settings():
                crew.settings = _for_workers(self._settings, valkey)
                await crew.renew()

    def _read_settings(self) -> bool:
        """Take the settings as they are now; False, having said why, if they are none."""
        if self._reload is None:
            return True
        try:
            new = self._reload()
        except SettingsError as error:
            logger.error("the settings are not what they should be, and nothing is restarted:\n%s", error)  # noqa: TRY400
            return False
        kept = {name: getattr(self._settings, name) for name in FIXED}
        changed = [name for name in FIXED if getattr(new, name) != kept[name]]
        if changed:
            logger.warning("a change of %s takes a restart of the whole server", ", ".join(changed))
        self._settings = replace(new, **kept)
        return True

    async def _leave(
        self, signals: AsyncIterator[int], crew: Crew, valkey: Valkey | None, bound: Sequence[Bound]
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_at_second_signal, signals)
            for each in bound:
                each.socket.close()  # or who connects now would wait for nobody
            async with trio.open_nursery() as needed:
                if valkey is not None:
                    needed.start_soon(valkey.keep)  # who signals all processes at once ends it too early
                await crew.leave()
                needed.cancel_scope.cancel()
            if valkey is not None:
                await valkey.leave()
            nursery.cancel_scope.cancel()


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _SecondSignal(Exception):
    """Somebody has no patience: what is left is killed, and then this process ends as that signal would have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _end_at_second_signal(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            raise _SecondSignal(number)


def _for_workers(settings: Settings, valkey: Valkey | None) -> Settings:
    return settings if valkey is None else replace(settings, engine=valkey.url, data_dir=None)


def _has_terminal() -> bool:
    """Whether there is a terminal: a SIGHUP because it was closed means to stop, as it does to any program."""
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return True
    return False
