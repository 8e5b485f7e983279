"""Polls without a server around them, and what a client that polls again and again must have seen in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio

from triocast.core.message import Position
from triocast.core.positions import parse_since
from triocast.poll_response import serve_poll
from triocast.reception import Reception
from triocast.transports.events import Call
from triocast.transports.poll import Polling

SCOPE = {"type": "http", "method": "GET", "http_version": "1.1", "path": "/poll/g", "query_string": b"", "headers": []}


@dataclass
class Request:
    """One request of a client that reads after `slow` seconds, and is gone when it says so."""

    slow: float = 0.0
    gone: trio.Event = field(default_factory=trio.Event)
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        await trio.sleep(self.slow)
        if self.gone.is_set():
            raise OSError("the client is gone")
        if event["type"] == "http.response.start":
            assert self.status == 0, "answered twice"
            self.status = event["status"]
            self.headers = dict(event["headers"])
        else:
            assert self.status, "a body without a head"
            assert not self.whole
            self.body += event["body"]
            self.whole = not event["more_body"]

    async def ask(self, reception: Reception, polling: Polling) -> Any:
        """Return what the answer says; None without one."""
        call = Call({**SCOPE, "state": {}}, self.receive, self.send)
        assert await serve_poll(reception, call, polling) is None
        if not self.whole:
            return None
        return json.loads(self.body)


class Reader:
    """A client that polls a group from where it is, and complains of whatever is missing, doubled or out of order."""

    def __init__(self, group: str, random: Random) -> None:
        self.group = group
        self.at: Position | None = None
        self.seen: list[tuple[Position, str]] = []
        self.lost = 0
        self._random = random

    async def poll(self, reception: Reception, wait: float, *, patience: float = float("inf"), slow: float = 0) -> int:
        """Poll once, leaving after `patience` seconds; return how many messages and gaps came."""
        request = Request(slow)
        polling = Polling(self.group, self.at, wait=wait, limit=self._random.choice([1, 2, 3, 100]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave, request, patience)
            answer = await request.ask(reception, polling)
            nursery.cancel_scope.cancel()
        if answer is None:
            assert patience < float("inf")
            return 0
        if request.status != 200:
            assert request.status == 503, answer
            return 0
        self._take(answer, polling)
        return len(answer["messages"])

    def check(self, published: Mapping[Position, str]) -> None:
        """What came is what was published at its position, and the newest of it was reached."""
        assert [published[position] for position, _ in self.seen] == [data for _, data in self.seen]
        assert self.at is not None
        assert self.at.offset == max(each.offset for each in published if each.epoch == self.at.epoch)

    async def _leave(self, request: Request, patience: float) -> None:
        await trio.sleep(patience)
        request.gone.set()

    def _take(self, answer: Any, polling: Polling) -> None:
        to = parse_since(answer["next"])
        at = self.at
        if at is None:  # it has begun now: with the first message, or where it is told that it stands
            first, *_ = [*answer["messages"], {"offset": to.offset + 1}]
            at = Position(to.epoch, (first["gap"]["from"] if "gap" in first else first["offset"]) - 1)
        messages = [each for each in answer["messages"] if "gap" not in each]
        assert len(messages) <= polling.limit
        for each in answer["messages"]:
            assert each["group"] == self.group
            at = self._follow(at, each)
        assert at == to
        self.at = at

    def _follow(self, at: Position, each: Any) -> Position:
        gap = each.get("gap")
        if gap is None:
            assert each["offset"] == at.offset + 1
            here = Position(at.epoch, each["offset"])
            self.seen.append((here, each["data"]))
            return here
        if gap["reason"] == "epoch":
            assert (gap["epochs"][0], gap["from"]) == (at.epoch, 1)
            epoch = gap["epochs"][1]
        else:
            assert gap["from"] == at.offset + 1
            epoch = at.epoch
        self.lost += gap["count"]
        return Position(epoch, gap["to"])
