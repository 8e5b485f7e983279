"""What the engine asks of the server, each one step there: positions, history, last values, and who is subscribed.

It holds no connection and no state: whoever calls it knows what it has.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from triocast.core.message import Draft, Position
from triocast.core.names import namespace_of
from triocast.core.recovery import Join
from triocast.engines import Audience, Page, Published
from triocast.engines.memory import NOWHERE, random_epoch
from triocast.engines.redis import scripts
from triocast.engines.redis.caller import Caller
from triocast.engines.redis.entries import arguments, digest, unpack
from triocast.engines.redis.keys import PARTITIONS, GroupKeys, Keys
from triocast.errors import EngineError, IdempotencyConflict, TooManyKeys, UnexpectedPosition
from triocast.settings import GroupSettings, Settings

ALIVE = 3.0  # seconds until a process that reports nothing counts no more; it reports every second
# A page of names is asked of all partitions: of each, what it has if they are spread evenly, twice over, and some more.
EVENLY = PARTITIONS // 2
SPARE = 8
PAGE_BYTES = (
    2 * 1024 * 1024
)  # of one reply: more than a page of history carries, so that such a page sees there is more
# What publishing answers that is no new message.
_REPEATED, _CONFLICT, _FULL, _UNEXPECTED = 1, 2, 3, 4
_PROLONGED = 1.0  # seconds that a position is kept longer, because a publish prolongs it at most once in this time


@dataclass(frozen=True, slots=True)
class Head:
    """The newest message of a group: where it stands, and its random id (empty if there is none)."""

    position: Position
    id: bytes


@dataclass(frozen=True, slots=True)
class Check:
    """Whether what was asked about is what the server has, and the server's newest; of a new epoch if it is not."""

    same: bool
    head: Head


class Store:
    """The scripts as methods. All raise `EngineUnavailable`, `UnknownOutcome` and `RedisRefused`.

    `idempotency_keys` bounds what each partition remembers at a time. `new_epoch` names the epochs.
    """

    def __init__(
        self,
        caller: Caller,
        settings: Settings,
        keys: Keys,
        *,
        idempotency_keys: int = 100_000,
        new_epoch: Callable[[], str] = random_epoch,
    ) -> None:
        self._caller = caller
        self._settings = settings
        self._keys = keys
        self._new_epoch = new_epoch
        self._position_ttl = _milliseconds(settings.position_ttl + _PROLONGED)
        self._own_terms = self._terms_of(settings, idempotency_keys)
        self._terms = {name: self._terms_of(each, idempotency_keys) for name, each in settings.namespaces.items()}

    async def publish(self, group: str, draft: Draft) -> Published:
        """Give the draft its position, keep it, and tell every process that listens.

        With an idempotency key that the group had in the last 300 s, nothing is published and the first answer given
        again. Raises `IdempotencyConflict`, `TooManyKeys` and `UnexpectedPosition`.
        """
        names = self._keys.of(group)
        terms, has_values = self._terms.get(namespace_of(group), self._own_terms)
        keys = [names.meta, names.stream, names.census, self._keys.processes(names.partition), names.channel]
        if has_values:
            keys += (names.values, names.order)
        repeatable: tuple[str, ...] = ()
        if draft.idempotency_key is not None:
            keys += (self._keys.record(group, draft.idempotency_key), self._keys.records(names.partition))
            repeatable = (digest(draft),)
        kind, data, length, key = arguments(draft)
        expected = "" if draft.expected is None else draft.expected.text
        ours = (self._new_epoch(), secrets.token_hex(6), kind, data, terms, length, key, expected)
        told = await scripts.PUBLISH.run(self._caller, names.partition, keys, *ours, *repeatable)
        if told[0] == _CONFLICT:
            raise IdempotencyConflict(f"another message was published to {group!r} with this idempotency key")
        if told[0] == _FULL:
            raise TooManyKeys("too many idempotency keys are remembered: none is forgotten before its time")
        position = Position(told[1].decode(), told[2])
        if told[0] == _UNEXPECTED and draft.expected is not None:
            raise UnexpectedPosition(group, draft.expected, position)
        return Published(position, Audience(told[3], told[4]), repeated=told[0] == _REPEATED)

    async def attach(self, group: str) -> Head:
        """Return where the group stands, which is made if there is none, and keep its position for its time."""
        names = self._keys.of(group)
        return _head(
            *await scripts.ATTACH.run(
                self._caller, names.partition, _kept(names), self._new_epoch(), self._position_ttl
            )
        )

    async def check(self, group: str, head: Head) -> Check:
        """Ask whether the message that a process has as its newest is the one that the server has there.

        If not, the server went back in time: the group begins a new epoch, of which its channel is told too.
        """
        names = self._keys.of(group)
        known = (head.position.epoch, head.position.offset, head.id)
        keys = (*_kept(names), names.channel)
        same, *now = await scripts.CHECK.run(
            self._caller, names.partition, keys, *known, self._new_epoch(), self._position_ttl
        )
        return Check(bool(same), _head(*now))

    async def fetch(self, group: str, after: int, limit: int) -> Page:
        """Return what there still is after the offset `after`, oldest first; at least one message if there is one."""
        return await self._read(group, "fetch", after, limit)

    async def read(self, group: str, after: int, limit: int) -> Page:
        """Return messages of history after the offset `after`, oldest first; at least one if there is one."""
        return await self._read(group, "read", after, limit)

    async def read_back(self, group: str, before: int | None, limit: int) -> Page:
        """Return messages of history before the offset `before` (None: of all), newest first.

        Fewer than `limit` are all there are, or more than `PAGE_BYTES`.
        """
        return await self._read(group, "back", _BEHIND_ALL if before is None else before, limit)

    async def last_values(self, group: str, after: int, limit: int) -> Page:
        """Return the last values after the offset `after`, oldest first; fewer than `limit` are all there are."""
        names = self._keys.of(group)
        keys = (names.meta, names.values, names.order)
        page, more = Page(NOWHERE, ()), 1
        while more and len(page.messages) < limit:
            asked = (after, limit - len(page.messages), PAGE_BYTES)
            *told, more = await scripts.VALUES.run(self._caller, names.partition, keys, *asked)
            next_page = _page(group, *told)
            if page.messages and next_page.position.epoch != page.position.epoch:
                break
            page = Page(next_page.position, page.messages + next_page.messages)
            after = page.messages[-1].offset if page.messages else after
        return page

    async def position(self, group: str) -> Position:
        """Return where the group stands; nothing is made or prolonged."""
        names = self._keys.of(group)
        epoch, offset = await self._caller.call(names.partition, b"HMGET", names.meta, b"e", b"o")
        return NOWHERE if epoch is None else Position(epoch.decode(), int(offset))

    async def report(self, partition: int, process: str, counts: Mapping[str, Audience]) -> bool:
        """Note how many subscribers a process has in groups of one partition, and that it is alive.

        Returns whether it was known: if not, what it reported before is not known either.
        """
        keys = [self._keys.processes(partition), self._keys.names(partition), self._keys.ages(partition)]
        told = []
        for group, count in counts.items():
            names = self._keys.of(group)
            keys += (names.census, names.meta)
            told.append(f"{count.subscribers} {count.behind}" if count.subscribers else "")
        return bool(await scripts.REPORT.run(self._caller, partition, keys, process, *told))

    async def census(self, groups: Sequence[str]) -> dict[str, dict[str, Audience]]:
        """Return, for each of the groups, what each process that has members there last reported."""
        by_partition: dict[int, list[str]] = {}
        for group in groups:
            by_partition.setdefault(self._keys.of(group).partition, []).append(group)
        found: dict[str, dict[str, Audience]] = {}

        async def ask(partition: int) -> None:
            some = by_partition[partition]
            keys = [self._keys.processes(partition), *(self._keys.of(group).census for group in some)]
            told = await scripts.CENSUS.run(self._caller, partition, keys, _milliseconds(ALIVE))
            found.update((group, _counts(flat)) for group, flat in zip(some, told, strict=True))

        await _at_once(ask, by_partition)
        return found

    async def listed(self, after: str | None, limit: int) -> list[str]:
        """Return the first names, at most `limit`, after the name `after`, of groups of which some process has told.

        A group whose processes have died since is among them for a while.
        """
        each = limit // EVENLY + SPARE
        known: list[str] = []
        ends: list[str] = []  # how far partitions were asked that may have more

        async def ask(partition: int) -> None:
            names = self._keys.names(partition)
            least = b"-" if after is None else b"(" + after.encode()
            command = (b"ZRANGEBYLEX", names, least, b"+", b"LIMIT", 0, each)
            told = [name.decode() for name in await self._caller.call(partition, *command)]
            known.extend(told)
            if len(told) == each:
                ends.append(told[-1])

        await _at_once(ask, range(PARTITIONS))
        if not ends:
            return sorted(known)[:limit]
        end = min(ends)  # up to here every partition has told everything
        sure = sorted(name for name in known if name <= end)[:limit]
        return sure if len(sure) == limit else [*sure, *await self.listed(end, limit - len(sure))]

    async def _read(self, group: str, what: str, offset: int, limit: int) -> Page:
        names = self._keys.of(group)
        held = self._settings.for_group(group)
        bounds = (held.history_size, held.history_bytes, _milliseconds(held.history_ttl))
        keys = (names.meta, names.stream)
        asked = (what, offset, limit, PAGE_BYTES)
        return _page(group, *await scripts.READ.run(self._caller, names.partition, keys, *asked, *bounds))

    def _terms_of(self, settings: GroupSettings, idempotency_keys: int) -> tuple[str, bool]:
        """Return what a publish tells of a namespace, and whether its groups have last values."""
        held = (settings.history_size, settings.history_bytes, _milliseconds(settings.history_ttl))
        terms = (self._position_ttl, *held, settings.max_keys, idempotency_keys)
        return " ".join(map(str, terms)), settings.join is Join.LAST


async def _at_once(ask: Callable[[int], Awaitable[None]], partitions: Iterable[int]) -> None:
    """Ask of many partitions in one round trip. Raises what one of them raises, once all are through."""
    failures: list[EngineError] = []

    async def ask_one(partition: int) -> None:
        try:
            await ask(partition)
        except EngineError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for partition in partitions:
            nursery.start_soon(ask_one, partition)
    if failures:
        raise failures[0]


_BEHIND_ALL = 2**53  # no offset is greater that a script can say


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _kept(names: GroupKeys) -> tuple[bytes, ...]:
    """Return the keys that stay for as long as the group's position does."""
    return names.meta, names.stream, names.values, names.order


def _head(epoch: bytes, offset: bytes, id_: bytes) -> Head:
    return Head(Position(epoch.decode(), int(offset)), id_)


def _page(group: str, epoch: bytes, offset: int, packed: Sequence[bytes]) -> Page:
    position = Position(epoch.decode(), offset)
    return Page(position, tuple(unpack(group, each, position.epoch).message for each in packed))


def _counts(flat: Sequence[bytes]) -> dict[str, Audience]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {process.decode(): Audience(*map(int, told.split())) for process, told in pairs}
