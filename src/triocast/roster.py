"""The clients that are connected: who may come in, who is told to go, and who is cut off because it does not.

It knows nothing of groups.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

import trio

from triocast.core.presence import Reason
from triocast.errors import RESTART, Close, ShuttingDown, TooManyConnections
from triocast.leaving import spread_of
from triocast.settings import Settings
from triocast.subscription import Follower

CHUNK = 100  # clients told to go between two turns of the event loop
# Seconds worth waiting for between two that are told: a timer for each of 10,000 would cost more than it spreads.
PAUSE = 0.01


class Client(Follower, Protocol):
    """What is needed of a connection."""

    since: float  # when it was made; trio's clock

    @property
    def ended(self) -> bool:
        """Whether it is over, or about to be."""

    def end(self, close: Close, reason: Reason = Reason.LEFT) -> None:
        """End the connection, telling its client why, and others the `reason`; later calls change nothing."""

    def remove(self, name: str, close: Close) -> bool:
        """Take it out of a group, telling its client why; whether it was in it."""

    def abort(self) -> None:
        """Cut the connection off at once; harmless when it is over."""


class Roster:
    """The clients of one hub; `run` cuts off the late. `alone`: no other process can take who is told to go."""

    def __init__(self, settings: Settings, *, alone: bool) -> None:
        self.draining = False
        """Whether nobody is let in any more."""
        self._settings = settings
        self._alone = alone
        self._clients: dict[str, Client] = {}  # by id
        self._by_user: dict[str, dict[str, Client]] = {}  # those that have one
        self._ending: dict[Client, float] = {}  # when each is cut off, soonest first
        self._ending_changed = trio.Event()
        self._told: trio.Event | None = None  # while draining; set once everybody is told to go
        self._emptied = trio.Event()  # while draining, nobody is left

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def __repr__(self) -> str:
        return f"<Roster {len(self)} clients, {len(self._ending)} ending{', draining' if self.draining else ''}>"

    def admit(self, client: Client) -> None:
        """Take in a client. Raises `ShuttingDown`, or `TooManyConnections` at the limit."""
        if self.draining:
            raise ShuttingDown("the server is shutting down; connect again in a moment")
        if len(self._clients) >= self._settings.max_connections:
            raise TooManyConnections(f"max_connections ({self._settings.max_connections}) clients are connected")
        self._clients[client.id] = client
        if client.identity.user is not None:
            self._by_user.setdefault(client.identity.user, {})[client.id] = client

    def find(self, id_: str) -> Client | None:
        """Return the client with this connection id, if it is connected here."""
        return self._clients.get(id_)

    def of_user(self, user: str) -> Sequence[Client]:
        """Return the connections of a user that are here."""
        return list(self._by_user.get(user, {}).values())

    def dismiss(self, client: Client) -> None:
        """Let go of a client that is gone."""
        self._clients.pop(client.id, None)
        user = client.identity.user
        if user is not None and user in self._by_user:
            self._by_user[user].pop(client.id, None)
            if not self._by_user[user]:
                del self._by_user[user]
        self._ending.pop(client, None)
        if self.draining and not self._clients:
            self._emptied.set()

    def expect_end(self, client: Client) -> None:
        """Cut `client` off unless it is gone within `close_timeout`."""
        self._ending.setdefault(client, trio.current_time() + self._settings.close_timeout)
        self._ending_changed.set()

    async def drain(self, close: Close = RESTART) -> None:
        """Let nobody in any more and end those there are with `close`: in random order, evenly over the time that
        `shutdown_spread` gives them, while the others are served as ever. Returns once all are told; a second call
        waits for the first. Cancelled, those not told yet are not.
        """
        self.draining = True
        if self._told is not None:
            await self._told.wait()
            return
        self._told, self._emptied = trio.Event(), trio.Event()
        try:
            clients = list(self._clients.values())
            random.shuffle(clients)  # not by age: those who came together would all be told together
            await self._tell(clients, close, spread_of(self._settings, len(clients), alone=self._alone))
        finally:
            self._told.set()

    async def run(self) -> None:
        """Abort every ending client that outlives its time, until cancelled."""
        while True:
            while not self._ending:
                self._ending_changed = trio.Event()
                await self._ending_changed.wait()
            await trio.sleep_until(next(iter(self._ending.values())))
            self._cut_off(trio.current_time())

    def reopen(self) -> None:
        """Let clients in again, after a drain."""
        self.draining = False
        self._told = None

    async def _tell(self, clients: Sequence[Client], close: Close, spread: float) -> None:
        begin = trio.current_time()
        for count, client in enumerate(clients):
            due = begin + spread * count / len(clients)
            if client.id not in self._clients:
                continue
            if due - trio.current_time() >= PAUSE:
                with trio.CancelScope(deadline=due):
                    await self._emptied.wait()
                    return
            elif count % CHUNK == CHUNK - 1:
                await trio.lowlevel.checkpoint()
            client.end(close)
        await trio.lowlevel.checkpoint()

    def _cut_off(self, now: float) -> None:
        # Not async: a task that waits would keep the last of them until the next one is due.
        while self._ending:
            client, deadline = next(iter(self._ending.items()))
            if deadline > now:
                return
            del self._ending[client]
            client.abort()
