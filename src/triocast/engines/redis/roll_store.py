"""What the engine asks of the server about members, each one step there: changes, looks, pages.

It holds no state: whoever calls it knows what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triocast.core.presence import Members
from triocast.engines.redis import scripts
from triocast.engines.redis.book import Answer, Batch, Order, Place
from triocast.engines.redis.caller import Caller
from triocast.engines.redis.keys import Keys
from triocast.engines.redis.members import pack_member, unpack_member

LOST = "!"
"""What the server has of a process that is being struck off."""
_OWN, _SWEEP = "own", "sweep"  # a process may have one change of each kind under way in a partition


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of a partition: what it has of this process, members whose grace is over, and what it has of
    each process with members there, which changes while that lives."""

    mark: str
    due: Sequence[Place]
    processes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Strike:
    """Members that are to be struck off: those whose grace is over, or of a process that is dead if the server still
    has of it what was `seen`. `number` tells one strike from another."""

    number: str
    places: Sequence[Place]
    process: str | None = None
    seen: str = ""


class RollStore:
    """The scripts as methods, for one `process`. All raise `EngineUnavailable`, `UnknownOutcome` and `RedisRefused`."""

    def __init__(self, caller: Caller, keys: Keys, process: str) -> None:
        self._caller = caller
        self._keys = keys
        self._process = process

    async def change(self, partition: int, batch: Batch) -> Answer | None:
        """Tell of this process's members; None if the server has something else of it. Safe to be repeated."""
        kind = "anew" if batch.anew else "own"
        groups = _numbered(order.group for order in batch.orders)
        orders = [each for order in batch.orders for each in (groups[order.group], *_arguments(order))]
        keys = self._changed(partition, self._process, _OWN, groups)
        known = (batch.number, batch.had, batch.number, batch.generation)
        told = await scripts.CHANGE.run(self._caller, partition, keys, kind, self._process, *known, *orders)
        return _answer(groups, told)

    async def strike(self, partition: int, strike: Strike) -> Answer | None:
        """Strike members off that may be any process's; None if theirs is not dead. Safe to be repeated."""
        kind, verb = ("due", "x") if strike.process is None else ("lost", "l")
        process = strike.process or self._process
        groups = _numbered(group for group, _ in strike.places)
        orders = [each for group, client in strike.places for each in (groups[group], verb, client, "", "")]
        keys = self._changed(partition, process, _SWEEP, groups)
        known = (strike.number, strike.seen, "", 0)
        told = await scripts.CHANGE.run(self._caller, partition, keys, kind, process, *known, *orders)
        return _answer(groups, told)

    async def look(self, partition: int, beat: int, most: int) -> Look:
        """Look at a partition, and show with a `beat` that differs from the last that this process lives."""
        keys = (self._keys.here(partition), self._keys.leaving(partition))
        mark, due, told = await scripts.LOOK.run(self._caller, partition, keys, self._process, beat, most)
        names = [each.decode() for each in told]
        return Look(mark.decode(), _places(due), dict(zip(names[::2], names[1::2], strict=True)))

    async def members_of(self, partition: int, process: str, most: int, before: int | None = None) -> list[Place]:
        """Return the first members of a process in a partition; of generations `before` one, if that is given."""
        end = b"+inf" if before is None else b"(%d" % before
        command = (b"ZRANGEBYSCORE", self._keys.index(partition, process), b"-inf", end, b"LIMIT", 0, most)
        return _places(await self._caller.call(partition, *command))

    async def page(self, group: str, after: str | None, limit: int) -> Members:
        """Return the first members of a group, at most `limit`, after the connection `after`."""
        names = self._keys.of(group)
        keys = (names.members, names.clients, names.users)
        start = b"-" if after is None else b"(" + after.encode()
        told = await scripts.MEMBERS.run(self._caller, names.partition, keys, start, limit)
        count, users, more, packed = told
        found = [unpack_member(each) for each in packed]
        return Members(found, count, users, found[-1].client if more else None)

    def _changed(self, partition: int, process: str, what: str, groups: Iterable[str]) -> list[bytes]:
        """Return the keys of what a change may touch. The ticket is that of whoever asks, for each kind."""
        of = self._keys
        keys = [of.here(partition), of.leaving(partition), of.index(partition, process), of.trace(partition, process)]
        keys.append(of.ticket(partition, self._process, what))
        for group in groups:
            names = of.of(group)
            keys += (names.members, names.clients, names.users, names.back, names.channel)
        return keys


def _arguments(order: Order) -> tuple[bytes | str | int, ...]:
    client = order.known.member.client
    if order.reason is None:
        return "+", client, pack_member(order.known.member), ""
    return "-", client, order.reason.value, round(order.grace * 1000)


def _numbered(groups: Iterable[str]) -> dict[str, int]:
    """Return each group once, with its number from 1 on."""
    return {group: number for number, group in enumerate(dict.fromkeys(groups), 1)}


def _answer(groups: Iterable[str], told: Sequence[Any]) -> Answer | None:
    if not told[0]:
        return None
    _, dead, present, counts, results = told
    pairs = zip(counts[::2], counts[1::2], strict=True)
    return Answer(bool(dead), bool(present), dict(zip(groups, pairs, strict=True)), results)


def _places(told: Sequence[bytes]) -> list[Place]:
    places = (each.decode().split(" ", 1) for each in told)
    return [(group, client) for group, client in places]
