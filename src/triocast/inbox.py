"""A group's inbox: a bounded trio memory channel whose places are taken before a message has a position.

It never drops; whoever wants a place waits, and that wait is the first backpressure a publisher feels.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from triocast.core.message import Message, Position
from triocast.notices import Notices


class InboxClosed(Exception):
    """The group has ended; unlike a full inbox, waiting does not help: look the group up again."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Asks the broadcaster to fetch what the engine should have delivered up to `offset`."""

    offset: int
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """Tells the broadcaster that the group is at `position` of a new epoch."""

    position: Position
    weight: int = 0


Item = Message | Recall | Renewal


class Inbox:
    """What waits for one broadcaster. `reserve` then `put_nowait` (or `release`), each reservation exactly once.

    Whoever must not wait calls `offer`, `recall` and `renew`, which take no places. What is told of who is in the group
    goes to `notices`, past the messages.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.notices = Notices()
        self.closed = False
        self.count = 0  # messages that were put in and are not given to the members yet, taken or not
        self.weight = 0  # their bytes
        self._since: list[float] = []  # when what was not asked about yet had been put in
        self._places = trio.Semaphore(size)
        self._waiting = 0
        self._recalled = 0  # up to where what had no place is to be fetched
        self._renewal: Renewal | None = None
        self._noticed = False
        self._send, self._receive = trio.open_memory_channel[Item | None](size + 1)  # and one notice, None

    def __repr__(self) -> str:
        return f"<Inbox {len(self)} of {self.size}{', closed' if self.closed else ''}>"

    def __len__(self) -> int:
        return self._waiting

    async def reserve(self) -> None:
        """Wait, first come first served, for a place; other tasks get their turn once there is none.

        Raises `InboxClosed` once the group has ended. Cancelled, no place is held.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.closed:
            try:
                self._places.acquire_nowait()
            except trio.WouldBlock:
                await self._places.acquire()
        if self.closed:
            raise InboxClosed

    def release(self) -> None:
        """Give a reserved place back unused."""
        self._places.release()

    def put_nowait(self, item: Item) -> None:
        """Fill a reserved place; after the group's end there is nobody to read it and it is let go."""
        if not self.closed:
            self._send.send_nowait(item)
            self._waiting += 1
            self.count += 1
            self.weight += item.weight
            self._since.append(trio.current_time())

    def offer(self, message: Message) -> None:
        """Put a message in, or have it fetched where there is no place for it: it need not be kept until there is."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            self.recall(message.offset)
        else:
            self.put_nowait(message)

    def recall(self, offset: int) -> None:
        """Have fetched what is missing up to `offset`, after what waits."""
        self._recalled = max(self._recalled, offset)
        self._notice()

    def renew(self, position: Position) -> None:
        """Tell that the group is at `position` of a new epoch; what was to be fetched is of the old one."""
        self._recalled = 0
        self._renewal = Renewal(position)
        self._notice()

    async def take(self) -> list[Item]:
        """Wait for something, then take all there is, in order, and free the places. Raises `InboxClosed`."""
        while True:
            try:
                first = await self._receive.receive()
            except trio.ClosedResourceError:
                raise InboxClosed from None
            items = [*self._taken(first), *self.take_nowait()]
            if items:
                return items

    def take_nowait(self) -> list[Item]:
        """Take all there is, in order, and free the places."""
        items: list[Item] = []
        while self._waiting or self._noticed:
            items += self._taken(self._receive.receive_nowait())
        return items

    def _taken(self, item: Item | None) -> list[Item]:
        if item is not None:
            self._waiting -= 1
            self._places.release()
            return [item]
        self._noticed = False
        renewal, self._renewal = self._renewal, None
        recalled, self._recalled = self._recalled, 0
        notices: list[Item] = [] if renewal is None else [renewal]
        if recalled:
            notices.append(Recall(recalled))
        self.count += len(notices)
        return notices

    def _notice(self) -> None:
        if not self._noticed and not self.closed:
            self._noticed = True
            self._send.send_nowait(None)

    def waited_since(self) -> list[float]:
        """Return when what was taken since the last call had been put in; to be asked in the step of taking all."""
        since, self._since = self._since, []
        return since

    def done(self, items: list[Item]) -> None:
        """Count off what was taken, once it is with the members or they are known to be behind."""
        self.count -= len(items)
        self.weight -= sum(item.weight for item in items)

    def close(self) -> None:
        """End the inbox: who waits for a place, or comes for one, gets `InboxClosed`."""
        self.closed = True
        self._receive.close()
        for _ in range(self._places.statistics().tasks_waiting):
            self._places.release()
