"""A group as an application has it: what it can do with one by its name.

It holds nothing but the name, and does nothing itself.
"""

from __future__ import annotations

import trio

from triocast.connection import Connection
from triocast.core.message import Draft, Position, Receipt
from triocast.core.names import check_group_name
from triocast.core.positions import as_position
from triocast.core.presence import Members
from triocast.core.recovery import wish_of
from triocast.core.steering import Order, close_of
from triocast.errors import FORCED
from triocast.group import GroupInfo
from triocast.history import PAGE, History
from triocast.hub import Hub

MAX_MEMBERS = 1000  # on one page: at most 1.3 MB of JSON, if all of them claim as much as they may


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
        position = None if since is None else as_position(since)
        await connection.join(self.name, wish_of(position, last))

    async def discard(self, connection: Connection) -> None:
        """End the membership of `connection`; harmless if it is no member.

        Nothing more of the group is written once this returns, but that it was left: in the JSON format, and to clients
        of server-sent events, after all that was written before.
        """
        await connection.leave(self.name)

    async def remove(self, client: Connection | str, *, code: int = FORCED.code, reason: str | None = None) -> bool:
        """Take a client out of the group, by its connection or the id of that, in whatever process it is; whether it
        was in it.

        Unlike who is discarded, it is told why: `code` (1000, 1008, 1011 to 1013, 3000 to 4999) and `reason` (at most
        123 bytes) stand with its `left` or `leave`, behind all that it was given before. One of bare payloads, and one
        that was not told yet that it is in, is closed with them instead. It is no ban: who asks again is let in again.

        Raises `InvalidClose`, and `EngineError` if other processes can't be asked.
        """
        id_ = client if isinstance(client, str) else client.id
        outcome = await self._hub.order(Order(close_of(code, reason), client=id_, group=self.name))
        return outcome.count > 0

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
            expected=None if expected is None else as_position(expected),
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
        position = None if since is None else as_position(since)
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
