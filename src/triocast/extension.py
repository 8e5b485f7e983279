"""The face of the library: a Quart extension that gives an application groups.

It makes a hub for the application, starts and stops it with it, and turns its WebSockets into connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import trio
from quart import Response, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from triocast import link
from triocast.connection import Connection
from triocast.core.identity import Identity, Info
from triocast.core.listening import Listening
from triocast.core.message import Draft, Position, Receipt
from triocast.core.names import check_group_name
from triocast.core.positions import parse_since
from triocast.core.presence import Members
from triocast.core.recovery import wish_of, wishes_of
from triocast.core.wire import FORMATS, FormatName
from triocast.door import DOOR, Door, open_door
from triocast.engines import Engine
from triocast.engines.choice import make_engine
from triocast.errors import NotRunning, TriocastError
from triocast.event_response import EventsResponse, open_events_door
from triocast.group import GroupInfo
from triocast.history import PAGE, History
from triocast.hooks import Handler, Hook
from triocast.hub import Hub
from triocast.problems import problem
from triocast.reception import Arrival, Reception
from triocast.settings import Settings, check_made, check_shared

_H = TypeVar("_H", bound=Handler)

MAX_MEMBERS = 1000  # on one page


class GroupHandle:
    """A group by its name; making one costs nothing, and the group need not exist."""

    __slots__ = ("_hub", "name")

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self.name = check_group_name(name)

    def __repr__(self) -> str:
        return f"<GroupHandle {self.name!r}>"

    async def add(
        self, connection: Connection, *, since: Position | str | None = None, last: int | None = None
    ) -> None:
        """Make `connection` a member: it gets every message sent after this returns, in order, each once.

        Before those it is given what follows the position `since`, or the `last` messages, as far as they are kept: in
        order, with nothing missing or doubled in between, and a gap for what can't be recovered. Adding a member again
        is harmless and gives it nothing. Raises `InvalidPosition`, `TooManyGroups`, `ConnectionEnded`, `EngineError`.
        Cancelled, it has not joined.
        """
        position = None if since is None else _position(since)
        await connection.join(self.name, wish_of(position, last))

    async def discard(self, connection: Connection) -> None:
        """End the membership of `connection`; harmless if it is no member.

        Nothing more of the group is written once this returns, but that it was left: in the JSON format, and to clients
        of server-sent events, after all that was written before.
        """
        await connection.leave(self.name)

    async def send(
        self,
        message: object,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        exclude: Connection | str | None = None,
        expected: Position | str | None = None,
    ) -> Receipt:
        """Publish `message` to all members: `str` as text, `bytes` as binary, anything else as JSON.

        Waits while the group's inbox is full; cancelled there, nothing was published. Returns a receipt once the
        members are being told; never waits for one of them.

        With an `idempotency_key` the group is given the message once, however often this is called within 300 seconds:
        a repeat waits for the first, publishes nothing and returns its receipt, as `repeated`.

        The connection `exclude`, or that with this id, is told that the message was delivered, if its format can say
        so, and not given it. With `expected` the message is published only if that is the position of the group's
        newest message (`"0"`: if it has none yet); a repeat is not judged again.

        Raises `InvalidMessage`, `MessageTooLarge`, `EngineError`; `InvalidConnectionId`; `InvalidPosition`, and
        `UnexpectedPosition`, which has the group's `position`, if it is another; with an idempotency key also
        `InvalidIdempotencyKey`, `IdempotencyConflict` if it came with another message before, and `TooManyKeys`. From
        a thread: `trio.from_thread.run(group.send, message)`.
        """
        draft = Draft.of(
            message,
            key=key,
            idempotency_key=idempotency_key,
            exclude=exclude.id if isinstance(exclude, Connection) else exclude,
            expected=None if expected is None else _position(expected),
        )
        # A handler that sends in a loop must not be faster than the tasks that write to its clients.
        await trio.lowlevel.checkpoint()
        return await self._hub.publish(self.name, draft)

    async def history(
        self, *, since: Position | str | None = None, limit: int = PAGE, reverse: bool = False
    ) -> History:
        """Return what is kept of what followed the position `since`, oldest first, or of all; a page at a time.

        With `reverse` the newest come first, and what came before `since`. What is no longer kept is named by a gap.
        A page has at most `limit` messages (1 to 1,000), fewer if they are heavy; go on with `since=page.next` until
        that is None. Raises `InvalidPosition`, `ValueError` for a limit out of bounds, `EngineError`.
        """
        position = parse_since(since) if isinstance(since, str) else since
        return await self._hub.history(self.name, position, limit, reverse=reverse)

    async def members(self, *, after: str | None = None, limit: int = 100) -> Members:
        """Return the first members, at most `limit` (1 to 1,000), in the order of their connections' ids, those of all
        processes; with `after=page.next` those that follow.

        One whose leave is not told yet (`presence_grace`) is among them. Raises `PresenceOff` where the group's
        settings have presence off, `ValueError` for a limit out of bounds, `EngineError`.
        """
        if not 1 <= limit <= MAX_MEMBERS:
            raise ValueError(f"limit is from 1 to {MAX_MEMBERS}, not {limit}")
        return await self._hub.members(self.name, after, limit)

    async def info(self) -> GroupInfo:
        """Describe the group as it is now."""
        return await self._hub.info(self.name)


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
        open_events_door(app, self.settings.allowed_origins)
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
            self.reception, _listening(groups, since, last, format, identity, strict=strict, presence=presence)
        )

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
        listening = _listening(groups, since, last, format, identity, strict=strict, presence=presence)
        async with self.accept(listening, headers, subprotocol) as connection:
            yield connection

    @asynccontextmanager
    async def accept(
        self, listening: Listening, headers: Mapping[str, str] | None = None, subprotocol: str | None = None
    ) -> AsyncIterator[Connection]:
        """Do what `connect` does, for what a client asks for by its address: see `triocast.web`."""
        opened = False
        current = cast("Any", websocket)._get_current_object()  # noqa: SLF001 - how Werkzeug's proxies are read
        receive, send = _door(current.scope).take()
        answer = _QuartsAnswer(current, dict(headers or {}), subprotocol)
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


def _listening(  # noqa: PLR0913 - likewise
    groups: Sequence[str],
    since: Mapping[str, Position | str] | None,
    last: int | None,
    form: FormatName,
    identity: Identity,
    *,
    strict: bool,
    presence: bool,
) -> Listening:
    _check_format(form)
    positions = {name: _position(each) for name, each in (since or {}).items()}
    wishes_of(groups, positions, last)  # raises for what can't be meant
    return Listening(list(dict.fromkeys(groups)), positions, last, form, strict, presence, identity)


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise ValueError(f"no such format: {name!r}; there are {', '.join(FORMATS)}")


def _position(since: Position | str) -> Position:
    return parse_since(since) if isinstance(since, str) else since


def _door(scope: dict[str, Any]) -> Door:
    door: Door | None = scope.get(DOOR)
    if door is None:
        raise NotRunning("this application has no Triocast: pass it to Triocast(app) or init_app(app)")
    return door


class Refusal(HTTPException):
    """Answers a handshake with an error instead of accepting it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response=response)
        self.code = response.status_code


class _QuartsAnswer:
    """Quart's websocket with the answer's headers and subprotocol filled in."""

    def __init__(self, current: Any, headers: dict[str, str], subprotocol: str | None) -> None:
        self._websocket = current
        self._headers = headers
        self._subprotocol = subprotocol

    async def accept(self, headers: Mapping[str, str]) -> None:
        await self._websocket.accept({**self._headers, **headers}, self._subprotocol)

    async def close(self, code: int, reason: str = "") -> None:
        await self._websocket.close(code, reason)
