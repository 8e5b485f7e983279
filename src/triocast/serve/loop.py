"""Serves until a signal, then leaves in order: no new connections, clients told, the rest cut off after the grace time.

It knows neither HTTP nor groups.
"""

from __future__ import annotations

import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import trio
from quart_trio import QuartTrio

from triocast.errors import TriocastError
from triocast.extension import Triocast
from triocast.link.host import Host, open_host
from triocast.serve.collector import tune_collector
from triocast.serve.listeners import Listening, listen_on, open_sockets
from triocast.serve.pacing import Paced
from triocast.serve.welcome import welcome
from triocast.settings import Settings
from triocast.settings.address import Address
from triocast.web.app import create_app

SPARE_CONNECTIONS = 1024  # beside max_connections, for publishers and health checks
NEWCOMERS = 1.0  # seconds for those to be answered who connected before the server stopped to listen
SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger("triocast.serve")


class HubEnded(TriocastError):
    """The hub ended by itself: a bug, and nothing that a server can go on without."""

    code = "hub_ended"


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM and return 0; a second signal ends the process at once.

    Raises `CannotListen`, `StartFailed`, `HubEnded`.
    """
    raise_file_limit()
    try:
        trio.run(serve, settings)
    except BaseExceptionGroup as group:
        raise only_leaf(group) from group
    return 0


async def serve(settings: Settings) -> None:
    """Listen, serve, and leave within `grace` of the first signal."""
    app = create_app(settings)
    async with open_sockets(settings) as bound:
        listening = listen_on(bound, settings)
        addresses = [each.address for each in bound]
        await serve_on(listening, app, settings, lambda: announce(settings, addresses))


async def serve_on(
    listening: Sequence[Listening],
    app: QuartTrio,
    settings: Settings,
    accepting: Callable[[], None],
    told_otherwise: Callable[[], Awaitable[str]] | None = None,
) -> None:
    """Serve from what listens until a signal, or until `told_otherwise` returns why, and leave within `grace` of that.

    `accepting` is called once connections are accepted.
    """
    push: Triocast = app.extensions["triocast"]
    async with open_host(app, settings) as host, trio.open_nursery() as watch:
        tune_collector()
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as serving:
                serving.start_soon(_accept, host, settings, listening, connections)
                serving.start_soon(_watch_hub, push)
                reason = await _wait_told(accepting, told_otherwise)
                serving.cancel_scope.cancel()
            logger.info("stopping", extra={"signal": reason, "clients": push.hub.connections})
            watch.start_soon(_cut_off_after, settings.grace, host, connections)
            for each in listening:
                await each.listener.aclose()
            await _tell_all_to_go(host, push)
        watch.cancel_scope.cancel()
    logger.info("stopped")


async def _wait_told(accepting: Callable[[], None], told_otherwise: Callable[[], Awaitable[str]] | None) -> str:
    """Return what tells the server to go: the name of a signal, or what `told_otherwise` returns."""
    told: list[str] = []
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def hear(teller: Callable[[], Awaitable[str]]) -> None:
                told.append(await teller())
                nursery.cancel_scope.cancel()

            async def next_signal() -> str:
                return signal.Signals(await anext(aiter(signals))).name

            nursery.start_soon(hear, next_signal)
            if told_otherwise is not None:
                nursery.start_soon(hear, told_otherwise)
            accepting()
    # The second one ends the process, whatever it is doing; but a worker may be told twice of the same stop, by its
    # supervisor and by whoever signals all processes at once, and it is the supervisor that loses patience with it.
    further = signal.SIG_DFL if told_otherwise is None else signal.SIG_IGN
    for each in SIGNALS:
        signal.signal(each, further)
    return told[0]


async def _accept(host: Host, settings: Settings, listening: Sequence[Listening], connections: trio.Nursery) -> None:
    limit = settings.max_connections + SPARE_CONNECTIONS

    async def serve_one(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        if len(host) >= limit:
            logger.warning("connection refused: %d are open", limit)
            await trio.aclose_forcefully(stream)
        else:
            await host.serve(stream)

    listeners = [Paced(each.listener) for each in listening]
    await trio.serve_listeners(serve_one, listeners, handler_nursery=connections)


async def _watch_hub(push: Triocast) -> None:
    await push.hub.wait_ended()
    raise HubEnded("the hub ended by itself; the log says why")


async def _tell_all_to_go(host: Host, push: Triocast) -> None:
    await host.wait_answered(NEWCOMERS)
    push.hub.roster.draining = True
    await host.terminate()
    await push.hub.roster.drain()


async def _cut_off_after(grace: float, host: Host, connections: trio.Nursery) -> None:
    await trio.sleep(grace)
    logger.warning("connections outlived the grace time and are cut off", extra={"connections": len(host)})
    host.reset_all()
    connections.cancel_scope.cancel()


def announce(settings: Settings, addresses: Sequence[Address]) -> None:
    """Say on standard output that the server is ready, and what to type next."""
    sys.stdout.write(welcome(settings, addresses))
    sys.stdout.flush()
    logger.info("listening", extra={"addresses": [str(address) for address in addresses]})


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have: every client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # macOS says "unlimited" and means less
            logger.debug("the limit of open files stays at %d", soft)


def only_leaf(error: BaseException) -> BaseException:
    """Unwrap what nurseries wrapped, as long as there is one error in it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
