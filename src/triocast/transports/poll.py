"""One answer to a request that waits for it: long-polling, for clients that can hold no stream open.

It touches no socket, and decides nothing about who may listen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import cast

import msgspec
import trio

from triocast.bell import Bell
from triocast.core.message import Gap, Position
from triocast.core.recovery import OLDEST
from triocast.core.wire import JSON, Format, Joined, Presence, Told
from triocast.core.wire.sse import position_of
from triocast.errors import CRASHED, NORMAL, RESTART, Close, ComeBack
from triocast.meters import Eviction
from triocast.settings import Settings
from triocast.subscription import Outlet
from triocast.transport import Disconnected
from triocast.transports.asgi import Event, Handle, broken_by_errors
from triocast.transports.events import Call

WAIT = 30.0  # seconds; half of what proxies allow
# Seconds. Proxies and load balancers cut off what is not answered for 60: who waits for longer is never answered.
MAX_WAIT = 60.0
LIMIT = 100  # messages, as many as a group keeps by default
MAX_LIMIT = 1000  # messages, as many as a page of history has; 64 KiB of them are one answer anyway
HEAD = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
UNREACHED = CRASHED.because("what you missed can't be read at the moment; try again")


@dataclass(frozen=True, slots=True)
class Polling:
    """What a client polls for: its group, where it is in it, how many seconds it waits, and how many messages it takes.

    Raises `ValueError` for seconds or messages out of bounds.
    """

    group: str
    since: Position | None = None
    last: int | None = None
    wait: float = WAIT
    limit: int = LIMIT

    def __post_init__(self) -> None:
        if not 0 <= self.wait <= MAX_WAIT:
            raise ValueError(f"wait is {self.wait}: it is 0 to {MAX_WAIT:g} seconds")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"limit is {self.limit}: it is 1 to {MAX_LIMIT} messages")


class PollTransport:
    """Takes one write's worth of messages, with the gaps before them, for one answer; `wait`, then `answer`.

    Whatever ends the connection before is answered too, as `close` says. Made when the request comes: its wait begins.
    """

    name = "poll"

    def __init__(self, call: Call, polling: Polling, settings: Settings, handle: Handle | None) -> None:
        self.format: Format = JSON
        self.outlet: Outlet | None = None
        self.limit = polling.limit
        self._call = call
        self._handle = handle
        self._group = polling.group
        self._timeout = inf if handle is not None and handle.progress_watched else settings.write_timeout
        now = trio.current_time()
        self._until = now + polling.wait
        # Until then it is told where it stands: who does not wait at all still waits for the engine.
        self._begin_by = now + max(polling.wait, settings.engine_timeout)
        # Up to where its client knows the group. Not where its stream begins, if it was here before: cut off behind
        # that, it would never be told of the gap that may come next.
        self._new = polling.since is None
        self._next = None if polling.since == OLDEST else polling.since
        self._told: list[str] = []
        self._begun = False
        self._full = False
        self._news = Bell()
        self._outgoing: list[Event] | None = None  # of the answer, once it is decided: what is not written yet

    def __repr__(self) -> str:
        return (
            f"<PollTransport {self._group!r} at {self._next}, {len(self._told)} told{', full' if self._full else ''}>"
        )

    async def open(self, positions: Sequence[Position]) -> None:
        """Nothing is answered yet, but from now on who has just come can be told where it stands."""
        if self._new and positions:
            (self._next,) = positions
        await trio.lowlevel.checkpoint()

    async def wait(self, more_comes: Callable[[], bool]) -> None:
        """Wait until there is something to answer with, for as long as the client wants to.

        A gap alone is that if nothing more comes: else a group that is trimmed all the time would answer with nothing
        but gaps.
        """
        with trio.move_on_at(self._begin_by):
            while not self._begun:
                await self._news.wait()
        with trio.move_on_at(self._until):
            while not (self._full or (self._told and not more_comes())):
                await self._news.wait()

    async def wait_writable(self) -> None:
        """Wait for ever once there is enough for the answer: what would be taken now is the next one's."""
        if self._full:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    async def send(self, told: Sequence[Told]) -> None:
        """Keep it for the answer."""
        for each in told:
            if isinstance(each, Joined):
                self._next = self._next or position_of(each)
            elif not isinstance(each, Presence):  # which nobody asks for here
                self._told.append(cast("str", JSON.payload(each)))
                self._next = position_of(each)
                self._full = self._full or not isinstance(each, Gap)
        self._begun = True
        self._news.ring()
        await trio.lowlevel.checkpoint()

    async def send_data(self, data: str | bytes) -> None:  # noqa: ARG002 - it has no place
        """Refuse: the answer has a group's messages and no others, and whoever sends this is told that it is so."""
        raise trio.BrokenResourceError("a poll is answered with what its group is told, and nothing else")

    async def receive(self) -> str | bytes:
        """Wait for the client's end; whatever it sends is dropped."""
        while (await self._call.receive())["type"] != "http.disconnect":
            pass
        raise Disconnected(eviction=self._eviction)

    async def answer(self) -> None:
        """Answer with what there is, or that there is nothing. Cancelled, `close` writes what is not yet written."""
        await self._answer(NORMAL if self._begun else UNREACHED)
        if self._eviction is not None:  # whoever receives is about to learn of it, counts it, and ends this
            await trio.sleep_forever()

    async def close(self, close: Close) -> None:
        """Answer, unless that is done: with what there is, or with where the client stands, if it is to come back at
        once; else with the reason."""
        await self._answer(close)

    def abort(self) -> None:
        """Reset the connection, where the server can and nobody else uses it."""
        if self._handle is not None and str(self._call.scope.get("http_version", "1.1")).startswith("1"):
            self._handle.abort()

    @property
    def _eviction(self) -> Eviction | None:
        return self._handle.eviction if self._handle is not None else None

    async def _answer(self, close: Close) -> None:
        if self._outgoing is None:
            self._outgoing = self._decide(close)
        with suppress(trio.BrokenResourceError):  # then the client's end is seen by whoever receives
            while self._outgoing:
                await trio.lowlevel.checkpoint_if_cancelled()  # here, where nothing is half written
                event, *rest = self._outgoing
                self._outgoing = []  # cut off in the middle of it, nobody knows how much of it is out
                await self._send(event)
                self._outgoing = rest

    def _decide(self, close: Close) -> list[Event]:
        comes_back = close.code == NORMAL.code or close.come_back is ComeBack.NOW
        if self._told or (comes_back and self._next is not None):
            return self._events(200, self._page())
        if close.come_back is ComeBack.NO:
            return self._events(403, _problem("closed", close))
        code = "shutting_down" if close.code == RESTART.code else "unavailable"
        return self._events(503, _problem(code, close), (b"retry-after", b"1"))

    def _page(self) -> bytes:
        position = msgspec.json.encode(str(self._next))
        head = b'{"group":%b,"messages":[' % msgspec.json.encode(self._group)
        return head + ",".join(self._told).encode() + b'],"next":%b}' % position

    def _events(self, status: int, body: bytes, *more: tuple[bytes, bytes]) -> list[Event]:
        headers = [*HEAD, (b"content-length", b"%d" % len(body)), *more, *self._call.headers]
        return [
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        ]

    async def _send(self, event: Event) -> None:
        with trio.move_on_after(self._timeout) as deadline, broken_by_errors():
            await self._call.send(event)
        if deadline.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError(f"no progress for {self._timeout} s")


def _problem(code: str, close: Close) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": close.reason}})
