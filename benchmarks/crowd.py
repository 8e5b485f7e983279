"""A storm in one process: clients of the served application in memory, on the real clock. python -m benchmarks.crowd
JSON, with the fields of `Storm`, how many are `live`, and the `rate` of their messages.

It goes through everything that a client of the server goes through but Hypercorn and the network: the fronts, the
places for handshakes, recovery, the writers. Clients come in at the pace at which the server accepts them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from triocast import Draft, Triocast
from triocast.hub import Hub
from triocast.serve.collector import tune_collector
from triocast.serve.pacing import Paced
from triocast.settings import Settings
from triocast.web.app import create_app

WARMUP = 2.0  # seconds
PATIENCE = 240.0

Event = dict[str, Any]


class Client(trio.abc.AsyncResource):
    """One WebSocket, as its server calls the application for it: `path` with a query, and what it has been sent."""

    def __init__(self, path: str, query: str = "") -> None:
        self._scope = scope(path, query)
        self._said = False
        self.accepted = trio.Event()

    async def run(self, app: Any) -> None:
        """Be a client until cancelled."""
        await app(self._scope, self._receive, self._send)

    async def _receive(self) -> Event:
        if self._said:
            await trio.sleep_forever()
        self._said = True
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.connect"}

    async def _send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if event["type"] == "websocket.accept":
            self.accepted.set()
        elif event["type"] == "websocket.send":  # else it is closed: in the end all are, before that it is missed
            self.take(event["text"])

    def take(self, text: str) -> None:
        """Be given a message."""

    async def aclose(self) -> None:
        """Nothing is open."""
        await trio.lowlevel.checkpoint()


class Live(Client):
    """A client that keeps up: when each message was due, and how long it took, in nanoseconds."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.deliveries: list[tuple[int, int]] = []
        self.next = 0
        self.wrong = 0

    def take(self, text: str) -> None:
        at = time.monotonic_ns()
        due, number = map(int, text.split())
        self.wrong += number != self.next
        self.next = number + 1
        self.deliveries.append((due, at - due))


class Returner(Client):
    """A client that has missed the messages up to `last`."""

    def __init__(self, path: str, query: str, first: int, last: int, crowd: Crowd) -> None:
        super().__init__(path, query)
        self._next = first
        self._last = last
        self._crowd = crowd

    def take(self, text: str) -> None:
        number = int(text)
        self._crowd.wrong += number != self._next
        self._next = number + 1
        if number == self._last:
            self._crowd.one_more()


class Door(trio.abc.Listener[Returner]):
    """Where they come in: there is always one more waiting."""

    def __init__(self, make: Callable[[], Returner]) -> None:
        self._make = make

    async def accept(self) -> Returner:
        await trio.lowlevel.checkpoint()
        return self._make()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Crowd:
    """How many have been given what they missed."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.wrong = 0
        self.ended = 0
        self.all = trio.Event()

    def one_more(self) -> None:
        """One more has."""
        self.left -= 1
        if not self.left:
            self.ended = time.monotonic_ns()
            self.all.set()


class Publisher:
    """Publishes to the live group at a steady rate; each message is due at its time, whatever the one before took."""

    def __init__(self, hub: Hub, rate: float) -> None:
        self._hub = hub
        self._interval = 1 / rate
        self.published = 0

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            offset = time.monotonic_ns() - round(trio.current_time() * 1e9)
            due = trio.current_time()
            async with trio.open_nursery() as nursery:
                while True:
                    due += self._interval
                    await trio.sleep_until(due)
                    if scope.cancel_called:
                        break
                    text = f"{round(due * 1e9) + offset} {self.published}"
                    self.published += 1
                    nursery.start_soon(self._hub.publish, "live", Draft.of(text))


async def main(clients: int, live: int, rate: float, missed: int, before: float) -> dict[str, Any]:
    """Run one storm; returns what `benchmarks.storm` makes figures of."""
    app = create_app(Settings(max_connections=2 * clients + live))
    push: Triocast = app.extensions["triocast"]
    async with app.test_app(), trio.open_nursery() as nursery:
        watchers = [Live("/ws/live") for _ in range(live)]
        for each in watchers:
            nursery.start_soon(each.run, app)
            await each.accepted.wait()
        tune_collector()
        publisher = Publisher(push.hub, rate)
        publishing = await nursery.start(publisher.run)
        await trio.sleep(WARMUP)
        quiet = time.monotonic_ns()
        await trio.sleep(before)
        quiet_end = time.monotonic_ns()
        crowd, begun = await storm(app, push.hub, clients, missed, nursery)
        publishing.cancel()
        published = publisher.published
        with trio.move_on_after(PATIENCE):
            while any(each.next < published for each in watchers):  # noqa: ASYNC110 - it is only the end
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    error = _wrong(crowd, watchers, published)
    return {
        "complete": error is None,
        "error": error,
        "before": (quiet, quiet_end),
        "during": (begun, crowd.ended),
        "deliveries": [delivery for each in watchers for delivery in each.deliveries],
    }


async def storm(app: Any, hub: Hub, clients: int, missed: int, nursery: trio.Nursery) -> tuple[Crowd, int]:
    """Let all clients come in; returns when each was given everything, a live message after it included."""
    position = None
    for number in range(missed):
        receipt = await hub.publish("storm", Draft.of(str(number)))
        position = position or f"{receipt.epoch}:{receipt.offset - 1}"
    crowd = Crowd(clients)
    begun = time.monotonic_ns()
    door = Paced(Door(lambda: Returner("/ws/storm", f"since={position}", 0, missed - 1, crowd)))
    for _ in range(clients):
        client = await door.accept()
        nursery.start_soon(client.run, app)
    with trio.move_on_after(PATIENCE):
        await crowd.all.wait()
    return crowd, begun


def _wrong(crowd: Crowd, watchers: list[Live], published: int) -> str | None:
    if crowd.left or crowd.wrong:
        return f"{crowd.left} clients have not been given what they missed, {crowd.wrong} messages were not in order"
    late = sum(1 for each in watchers if each.wrong or each.next < published)
    return f"{late} live clients were not given every message once and in order" if late else None


def scope(path: str, query: str) -> Event:
    """Return what a server says of a WebSocket that asks for `path`."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


if __name__ == "__main__":
    words = json.loads(sys.argv[1])
    del words["storms"]
    print(json.dumps(trio.run(lambda: main(**words))))  # noqa: T201
