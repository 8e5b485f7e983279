"""The face of the library: a Quart extension that gives an application groups.

It makes a hub for the application, starts and stops it with it, and turns its WebSockets into connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from quart import websocket
from quart_trio import QuartTrio

from triocast import link
from triocast.connection import Connection
from triocast.core.identity import Identity, Info, check_user
from triocast.core.listening import Listening, listening_of
from triocast.core.message import Position
from triocast.core.positions import as_position
from triocast.core.recovery import wish_of
from triocast.core.steering import Order, close_of
from triocast.core.wire import FormatName
from triocast.door import open_door
from triocast.engines import Engine
from triocast.engines.choice import make_engine
from triocast.errors import FORCED, NotRunning, TriocastError
from triocast.event_response import EventsResponse
from triocast.group_handle import GroupHandle
from triocast.handshake import QuartsAnswer, Refusal, door_of
from triocast.hooks import Handler, Hook
from triocast.hub import Hub
from triocast.lasting import open_lasting_door
from triocast.poll_response import PollResponse
from triocast.problems import problem
from triocast.reception import Arrival, Reception
from triocast.settings import Settings, check_made, check_shared
from triocast.transports.poll import LIMIT, WAIT, Polling

_H = TypeVar("_H", bound=Handler)


class Triocast:
    """Groups for a Quart-Trio application; `Triocast(app)`, or `init_app(app)` later.

    `settings` default to `Settings()`; the environment is not read, and values that no file could have are refused
    with `SettingsError`. `engine` defaults to the one that they name. Unless
    `harden` is false, Hypercorn's connection class is replaced by one that contains crashes, gives every write a
    deadline and bounds what it buffers (see docs/architecture.md).
    """

    def __init__(
        self,
        app: QuartTrio | None = None,
        settings: Settings | None = None,
        *,
        engine: Engine | None = None,
        harden: bool = True,
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        check_made(self.settings)
        if engine is not None and engine.process is not None:
            check_shared(self.settings)
        self.hub = Hub(self.settings, engine if engine is not None else make_engine(self.settings))
        self.reception = Reception(self.hub)
        self._harden = harden
        if app is not None:
            self.init_app(app)

    def init_app(self, app: QuartTrio) -> None:
        """Attach to `app`: its WebSockets get a door, its start starts the hub, its end stops it."""
        if "triocast" in app.extensions:
            raise RuntimeError("this application has a Triocast already")
        app.extensions["triocast"] = self
        open_door(app, self.reception)
        open_lasting_door(app, self.settings.allowed_origins)
        if self._harden:
            link.install(self.settings)

        @app.before_serving
        async def start_hub() -> None:
            self.reception.begin()
            await app.nursery.start(self.hub.run)

        @app.after_serving
        async def stop_hub() -> None:
            self.hub.stop()

    def group(self, name: str) -> GroupHandle:
        """Return the group of that name. Raises `InvalidGroupName`."""
        return GroupHandle(self.hub, name)

    async def disconnect(
        self,
        *,
        client: Connection | str | None = None,
        user: str | None = None,
        code: int = FORCED.code,
        reason: str | None = None,
    ) -> int:
        """Close a client's connection, by itself or its id, or all connections of a user, in whatever process they
        are; return how many there were.

        They are told `code` (1000, 1008, 1011 to 1013, 3000 to 4999) and `reason` (at most 123 bytes). Clients do not
        come back by themselves after 3503, which is the default; who connects meanwhile, or later, is let in.

        Where the engine knows other processes, returns once all have done it, after 2 seconds at most: one that could
        not be reached then does it when it is back. Raises `ValueError` unless one of `client` and `user` is given,
        `InvalidClose`, `InvalidIdentity`, and `EngineError` if other processes can't be asked.
        """
        if (client is None) == (user is None):
            raise ValueError("say either which client is meant, or which user")
        id_ = client.id if isinstance(client, Connection) else client
        whom = None if user is None else check_user(user)
        return (await self.hub.order(Order(close_of(code, reason), client=id_, user=whom))).count

    def on_join(self, handler: _H) -> _H:
        """Have an async function called with a `Happening` for each member that joins a group: a decorator.

        Handlers run one after the other, in the order of what happened, in the process in which it did; a server waits
        for none. What finds `hook_queue` of them waiting is dropped and counted, one that takes `hook_timeout` is
        cancelled, and one that raises is logged. See docs/presence.md. Raises `TypeError` for a function that is not
        async.
        """
        return self._hook(Hook.JOIN, handler)

    def on_leave(self, handler: _H) -> _H:
        """Likewise for each member that leaves, exactly once for each that joined, with the reason."""
        return self._hook(Hook.LEAVE, handler)

    def on_move(self, handler: _H) -> _H:
        """Likewise for each member that came back within the group's grace, with another connection: it did not leave,
        and its leave will name the new one."""
        return self._hook(Hook.MOVE, handler)

    def on_occupied(self, handler: _H) -> _H:
        """Likewise for each group that has a member and had none, in all processes."""
        return self._hook(Hook.OCCUPIED, handler)

    def on_vacated(self, handler: _H) -> _H:
        """Likewise for each group that has no member any more."""
        return self._hook(Hook.VACATED, handler)

    def _hook(self, hook: Hook, handler: _H) -> _H:
        self.hub.hooks.add(hook, handler)
        return handler

    def events(  # noqa: PLR0913 - each of them is a keyword that most callers leave out
        self,
        *groups: str,
        format: FormatName = "raw",  # noqa: A002 - as the query parameter is called
        strict: bool = False,
        since: Mapping[str, Position | str] | None = None,
        last: int | None = None,
        user: str | None = None,
        info: Info | None = None,
        claimed: bool = False,
        presence: bool = False,
    ) -> EventsResponse:
        """In a request handler: return the response that gives the client the events of `groups` until it leaves.

        Headers can be added to it. Where each group begins is as `connect` has it; a client that comes back, as an
        EventSource does by itself, goes on where it was. With `strict` it is closed with 4010 instead of missing a
        message; with `format="json"` the data of each event is a JSON object with group and offset. See docs/sse.md.
        Who the client is, and whether it is told who else is there, is said as to `connect`. Raises `ValueError`
        without a group or for a format there is not, `InvalidPosition` and `InvalidIdentity`.

        Instead of the stream the client is answered as `connect` refuses one.
        """
        if not groups:
            raise ValueError("name at least one group: an event stream has no way to ask for one later")
        identity = Identity.of(user, info, claimed=claimed)
        return EventsResponse(
            self.reception, listening_of(groups, since, last, format, identity, strict=strict, presence=presence)
        )

    def poll(
        self,
        group: str,
        *,
        since: Position | str | None = None,
        last: int | None = None,
        wait: float = WAIT,
        limit: int = LIMIT,
    ) -> PollResponse:
        """In a request handler: return the response that gives the client what follows the position `since` in `group`,
        at most `limit` messages, as soon as there is any, or after `wait` seconds nothing (0 to 60; 0 does not wait).

        It is JSON, with the position to ask for next, and headers can be added to it; see docs/http.md. Where a client
        without `since` begins is as `connect` has it. Raises `ValueError` for what is out of bounds, and
        `InvalidPosition`. The client is refused as `connect` refuses one.
        """
        position = None if since is None else as_position(since)
        wish_of(position, last)  # raises for what can't be meant
        return PollResponse(self.reception, Polling(group, position, last, wait, limit))

    @asynccontextmanager
    async def connect(  # noqa: PLR0913 - likewise
        self,
        *groups: str,
        headers: Mapping[str, str] | None = None,
        subprotocol: str | None = None,
        format: FormatName = "raw",  # noqa: A002 - as the query parameter is called
        strict: bool = False,
        since: Mapping[str, Position | str] | None = None,
        last: int | None = None,
        user: str | None = None,
        info: Info | None = None,
        claimed: bool = False,
        presence: bool = False,
    ) -> AsyncIterator[Connection]:
        """In a WebSocket handler: check the Origin, accept the client, and run its connection around the block.

        The client is a member of `groups` before it is accepted, so that it misses nothing from its "open" on; more
        can be added in the block. `headers` and `subprotocol` go into the answer to the handshake.

        A group in `since` begins with what follows that position, the others with their `last` messages, as `add` does.
        Where each begins is said in the answer's header `Triocast-Position`.

        With `format="json"` the client is given each message as one JSON object with group and offset, and gaps in
        their place (docs/http.md); with `"raw"` payloads and nothing else. With `strict` it is closed with 4010
        instead of missing a message.

        `user` is who this is to the application, by whatever it trusts, and `info` what is shown of the client to
        others: a JSON object, as a mapping or as its text, of at most 1,024 bytes. With `claimed` the info is only what
        the client says of itself, and is shown as that. With `presence` the client is told who comes to its groups and
        who goes (docs/presence.md); that needs `format="json"`. Raises `InvalidIdentity`, and `ValueError` for a format
        there is not.

        Leaving the block leaves every group and closes the client: with 1000, or with 1011 if the block raised. When
        the client goes, the block is cancelled and what follows it runs.

        Refuses, as an HTTP answer to the handshake: a foreign Origin (403), a bad group name or too many groups (400),
        too many connections, a shutdown or an engine that fails (503).
        """
        if presence and format == "raw":
            raise ValueError("bare payloads have no room for who is there: presence needs format='json'")
        identity = Identity.of(user, info, claimed=claimed)
        listening = listening_of(groups, since, last, format, identity, strict=strict, presence=presence)
        async with self.accept(listening, headers, subprotocol) as connection:
            yield connection

    @asynccontextmanager
    async def accept(
        self, listening: Listening, headers: Mapping[str, str] | None = None, subprotocol: str | None = None
    ) -> AsyncIterator[Connection]:
        """Do what `connect` does, for what a client asks for by its address: see `triocast.web`."""
        opened = False
        current = cast("Any", websocket)._get_current_object()  # noqa: SLF001 - how Werkzeug's proxies are read
        receive, send = door_of(current.scope).take()
        answer = QuartsAnswer(current, dict(headers or {}), subprotocol)
        try:
            async with self.reception.connection(
                Arrival(current.scope, receive, send, answer), listening
            ) as connection:
                opened = True
                yield connection
        except TriocastError as error:
            if opened or isinstance(error, NotRunning):
                raise
            raise Refusal(problem(error)) from error
