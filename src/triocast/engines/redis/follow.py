"""What this process knows of one group that has members in it: the newest message it heard of; what to make of more.

Plain decisions, each one step; only `look` asks somebody.
"""

from __future__ import annotations

import logging

import trio

from triocast.core.message import Position
from triocast.engines.redis.entries import Entry, unpack_told
from triocast.engines.redis.keys import GroupKeys
from triocast.engines.redis.members import TOLD, unpack_changes
from triocast.engines.redis.store import Head, Store
from triocast.errors import EngineError
from triocast.inbox import Inbox

PAST = 4  # epochs of before that are remembered: a late message of theirs must not bring them back

logger = logging.getLogger("triocast.redis")


class Follow:
    """One group's way from the server to its inbox. It is `live` while what is published is heard of."""

    __slots__ = ("_early", "_past", "failure", "group", "head", "inbox", "known", "live", "names", "ready")

    def __init__(self, group: str, names: GroupKeys, inbox: Inbox) -> None:
        self.group = group
        self.names = names
        self.inbox = inbox
        self.live = False
        self.head = Position("", 0)
        """The newest message that was heard of, of the epoch that members are in; nowhere until `ready`."""
        self.known: bytes | None = None
        """The id of that message; None where it is not known, and must be asked for instead of checked."""
        self.ready = trio.Event()
        """Set once the head is there, or the failure."""
        self.failure: EngineError | None = None
        self._early = Position("", 0)  # the newest message that was told before there was a head
        self._past: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Follow {self.group!r} at {self.head}{'' if self.live else ', not live'}>"

    @property
    def name(self) -> str:
        """The group."""
        return self.group

    @property
    def channel(self) -> bytes:
        """Where it is told."""
        return self.names.channel

    @property
    def partition(self) -> int:
        """Where the group is."""
        return self.names.partition

    async def look(self, store: Store) -> None:
        """Ask the store where the group stands."""
        if not self.ready.is_set() or self.known is None:
            head = await store.attach(self.group)
        else:
            head = (await store.check(self.group, Head(self.head, self.known))).head
        self.stands(head)

    def told(self, payload: bytes) -> None:
        """Take what came on the group's channel."""
        try:
            if payload.startswith(TOLD):
                self._notice(payload)
                return
            what = unpack_told(self.group, payload)
        except (ValueError, KeyError):
            logger.warning("something foreign came on a group's channel", extra={"group": self.group})
            return
        if isinstance(what, Position):
            self._move(what, None)
        elif self.ready.is_set():
            self._deliver(what)
        else:
            self._early = what.message.position

    def stands(self, head: Head) -> None:
        """Take what the store says, asked after the channel was subscribed to: fetch what was not heard of."""
        position = head.position
        if not self.ready.is_set():
            self.head, self.known = position, head.id
            self.ready.set()
            if self._early.epoch == position.epoch and self._early.offset > position.offset:
                self.inbox.recall(self._early.offset)
            return
        self._move(position, head.id)
        if position.epoch == self.head.epoch:
            if position.offset > self.head.offset:
                self.inbox.recall(position.offset)
                self.head, self.known = position, head.id
            elif position.offset == self.head.offset:
                self.known = head.id

    def resume(self) -> None:
        """What is told is heard of from here on; who came and went until then, nobody tells again."""
        if not self.live:
            self.live = True
            self.inbox.notices.reset()

    def fail(self, error: EngineError) -> None:
        """Give up what can't be had; for who waits for the head."""
        if not self.ready.is_set():
            self.failure = error
            self.ready.set()

    def _notice(self, payload: bytes) -> None:
        if self.inbox.notices.arouse is not None:  # else nobody here wants to know
            self.inbox.notices.add(unpack_changes(payload))

    def _deliver(self, entry: Entry) -> None:
        position = entry.message.position
        if position.epoch != self.head.epoch:
            self._move(Position(position.epoch, position.offset - 1), None)
        if position.epoch == self.head.epoch and position.offset > self.head.offset:
            self.head, self.known = position, entry.id
            self.inbox.offer(entry.message)

    def _move(self, position: Position, known: bytes | None) -> None:
        """Begin a new epoch, unless it is the one there is or an old one; whoever has members tells them."""
        if not self.ready.is_set() or position.epoch == self.head.epoch or position.epoch in self._past:
            return
        self._past = (*self._past, self.head.epoch)[-PAST:]
        self.head, self.known = position, known
        self.inbox.renew(position)
