"""Listening to groups: one stream of messages over as many connections as it takes.

The connections themselves, and how long to wait between them, are decided elsewhere; nothing here publishes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from triocast.client.beginning import Since, beginning_of, position_text, read_since
from triocast.client.course import Course, Step
from triocast.client.frames import Delivered, Item
from triocast.client.keeper import Keeper, Lost, Wanted
from triocast.client.settings import ListenerSettings
from triocast.client.target import parse_url
from triocast.client.way import About, FormatName, TransportName, way_of
from triocast.core.message import Position
from triocast.core.names import check_group_name
from triocast.core.recovery import wish_of

DEFAULTS = ListenerSettings()


class Listener:
    """The messages of some groups, in the order in which they came, and gaps in the place of those that are missing;
    iterate over it, in one task. A group that the server takes the listener out of is said by `Left`; who comes and
    goes by `Presence` and `PresenceReset`, if that was asked for.

    Iteration ends when the server closes normally (1000); it raises `ListenerClosed` when it says not to come
    back, `HandshakeRefused` when it does so on reconnecting, or `UnexpectedFrame`, also for what came already.

    After a lost connection it goes on where it was: what was published meanwhile comes in order and once, as far as the
    server keeps it, and a gap names the rest.
    """

    def __init__(self, incoming: trio.MemoryReceiveChannel[Step], keeper: Keeper, course: Course) -> None:
        self._incoming = incoming
        self._keeper = keeper
        self._course = course
        self._given: dict[str, Position] = {}

    def __repr__(self) -> str:
        return f"<Listener {self._keeper}>"

    @property
    def positions(self) -> dict[str, str]:
        """Where each group is, in a form that `since` takes: for a program that wants to go on after its own restart.

        What was given last is counted, whatever became of it: store this once that is dealt with. A group is missing
        here if nobody has told its position: no Triocast, or several groups in the raw format.
        """
        return {group: position_text(at) for group, at in {**self._course.origins, **self._given}.items()}

    def __aiter__(self) -> Listener:
        """Return itself."""
        return self

    async def __anext__(self) -> Item:
        """Wait for the next message or gap, or for news of a group."""
        while isinstance(item := await self._take(), Delivered):
            pass  # an offset without anything to give
        return item

    async def _take(self) -> Item | Delivered:
        try:
            item, position = await self._incoming.receive()
        except trio.EndOfChannel:
            if self._keeper.failure is not None:
                raise self._keeper.failure from None
            raise StopAsyncIteration from None
        if position is not None and item.group is not None:
            self._given[item.group] = position
        return item


@asynccontextmanager
async def open_listener(  # noqa: PLR0913 (an argument for each thing to be said)
    url: str,
    groups: Sequence[str],
    *,
    format: FormatName = "json",  # noqa: A002 - as the query parameter is called
    transport: TransportName = "websocket",
    since: Since = None,
    last: int | None = None,
    presence: bool = False,
    info: Mapping[str, object] | None = None,
    reconnect: bool = True,
    on_lost: Callable[[Lost], object] | None = None,
    settings: ListenerSettings = DEFAULTS,
) -> AsyncIterator[Listener]:
    """Listen to `groups` of the server at `url` (http://, https://, ws://, wss:// or unix:PATH).

    It begins with what follows `since`: a position for each group, as `Listener.positions` has them, or "0" for the
    oldest message kept; or with the `last` messages of each group, as far as they are kept; or with what comes.

    With `presence` it is told who comes and goes too, of which `Members` keeps a list; `info`, a JSON object of up to
    1,024 bytes, is what others are told of this listener, as its own claim.

    Entering connects: inside the block one is subscribed. It raises `InvalidURL`, `InvalidGroupName`,
    `InvalidPosition`, `ValueError`, `TypeError`, `CannotConnect` or `HandshakeRefused`; the first attempt is not
    repeated. A connection that is lost later is made anew after a jittered wait, of which `on_lost` is told, and goes
    on where the last one broke off, unless the server said not to come back or `reconnect` is False. Leaving the block
    ends every task and closes the socket, within `close_timeout`; if it is cancelled, at once and without a closing
    handshake.

    With `format="raw"` messages come as payloads and nothing else. Those of one group are counted from where the server
    says that it begins, which goes on after a loss too; so that the count is right, the server is asked for `strict=1`:
    where it would leave out messages it closes the connection (4010). Those of several groups can't be told apart: what
    is missing is not noticed, and nothing goes on where it was. There is no room for presence in payloads.

    With `transport="sse"` it listens by server-sent events, which pass where WebSockets do not, and keeps the same
    promises. There the raw format has gaps and offsets, of several groups too: their ids tell.
    """
    if isinstance(groups, str) or not groups:
        raise ValueError("groups is a list of at least one group name")
    groups = tuple(dict.fromkeys(check_group_name(group) for group in groups))
    positions = read_since(groups, since)
    wish_of(positions.get(groups[0]), last)  # raises for what can't be meant
    outgoing, incoming = trio.open_memory_channel[Step](settings.max_waiting)
    way = way_of(transport, format, groups, About(presence, info))
    course = Course(groups if way.tells_groups else (), positions, counts=way.counts)
    beginning = beginning_of(positions.values(), last)
    wanted = Wanted(groups, way, course, beginning)
    keeper = Keeper(parse_url(url), wanted, settings, reconnect=reconnect, on_lost=on_lost)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        if (refusal := await nursery.start(keeper.run, outgoing)) is not None:
            failure = refusal
        else:
            try:
                yield Listener(incoming, keeper, course)
            except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
                if _is_cancelled(error):
                    raise
                failure = error  # raised below, as it is and not in a group of our nursery's
            await keeper.say_goodbye()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None
