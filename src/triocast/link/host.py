"""Hosts an application on links for our own serve loop: Hypercorn's configuration, lifespan and context around it.

It opens no socket and knows no signal; the serve loop does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import LifespanFailureError, wrap_app

from triocast.errors import TriocastError
from triocast.link.install import link_class
from triocast.link.writing import TCPStream
from triocast.settings import Settings

MAX_REQUESTS = 1_000_000  # on one connection: Hypercorn's 1,000 would cost a busy publisher a connection every second
LIFESPAN_TIMEOUT = 30.0  # seconds for an application to start; ours needs none of them
STOP_TIMEOUT = (
    0.5  # seconds for it to stop, once its connections are gone: part of the second that follows the grace time
)

LOOK_AGAIN = 0.01  # seconds; only while leaving, so that being answered costs connections no event of their own


class StartFailed(TriocastError):
    """The application could not start; see its cause."""

    code = "start_failed"


class Host:
    """An application that has started, and the connections it serves. Made by `open_host`."""

    def __init__(self, app: AppWrapper, config: Config, state: LifespanState, settings: Settings) -> None:
        self._app = app
        self._config = config
        self._context = WorkerContext(None)
        self._state = state
        self._links = link_class(settings)

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._links.live)

    async def serve(self, stream: TCPStream) -> None:
        """Serve one connection until it is over; raises nothing but cancellation."""
        await self._links(self._app, self._config, self._context, ConnectionState(self._state.copy()), stream)

    async def wait_answered(self, patience: float) -> None:
        """Wait until everybody who has connected has had an answer, at most `patience` seconds: who came while the
        server was still listening is not to find it gone."""
        with trio.move_on_after(patience):
            await trio.lowlevel.checkpoint()  # those just accepted become connections
            while any(not link.answered for link in self._links.live):  # noqa: ASYNC110 - see LOOK_AGAIN
                await trio.sleep(LOOK_AGAIN)

    async def terminate(self) -> None:
        """Close idle connections, and every other one after the response under way."""
        await self._context.terminated.set()

    def reset_all(self) -> None:
        """Cut every connection off, whatever waits on it."""
        self._links.reset_all()


@asynccontextmanager
async def open_host(app: Any, settings: Settings) -> AsyncIterator[Host]:
    """Start an ASGI application, give its host, and stop it at the end of the block.

    Raises `StartFailed`.
    """
    config = _config(settings)
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    state: LifespanState = {}
    lifespan = Lifespan(wrapped, config, state)
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
        except LifespanFailureError as error:
            raise StartFailed(f"the application could not start: {error}") from error
        try:
            yield Host(wrapped, config, state, settings)
        finally:
            with trio.move_on_after(STOP_TIMEOUT, shield=True):
                await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()


def _config(settings: Settings) -> Config:
    config = Config()
    config.accesslog = None  # a line for every publish costs more than the publish; metrics count them
    config.errorlog = logging.getLogger("triocast.server")
    config.include_server_header = False
    config.keep_alive_max_requests = MAX_REQUESTS
    config.h11_max_incomplete_size = settings.max_header
    config.startup_timeout = LIFESPAN_TIMEOUT
    config.shutdown_timeout = STOP_TIMEOUT
    return config
