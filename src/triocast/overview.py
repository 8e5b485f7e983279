"""What groups there are and who is in them: this process's as they are, those of others as they last reported.

It changes nothing, and asks the engine only where that knows other processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest

import trio

from triocast.engines import Audience, Engine, total
from triocast.errors import EngineError
from triocast.group import Group, GroupInfo
from triocast.settings import Settings


class Overview:
    """Describes the groups of an engine; `groups` are those of this process."""

    def __init__(self, engine: Engine, settings: Settings, groups: Mapping[str, Group]) -> None:
        self._engine = engine
        self._settings = settings
        self._groups = groups

    async def info(self, name: str) -> GroupInfo:
        """Describe one group. Raises `EngineError`."""
        reported: Mapping[str, Audience] = {}
        if self._engine.process is not None:
            reported = (await self._engine.census([name]))[name]
        return await self._describe(name, reported)

    async def page(self, after: str | None, limit: int) -> Sequence[GroupInfo]:
        """Describe the first groups with members, by name, at most `limit`, after the name `after`.

        Raises `EngineError`.
        """
        if self._engine.process is None:
            await trio.lowlevel.checkpoint()
            return [self._groups[name].info() for name in self._own(after, limit)]
        found: list[GroupInfo] = []
        while len(found) < limit:
            size = limit - len(found)
            names = nsmallest(size, {*self._own(after, size), *await self._engine.listed(after, size)})
            found += await self._with_members(names)
            if len(names) < size:
                break
            after = names[-1]
        return found

    def _own(self, after: str | None, limit: int) -> Sequence[str]:
        used = (name for name, group in self._groups.items() if group.subscribers)
        return nsmallest(limit, (name for name in used if after is None or name > after))

    async def _with_members(self, names: Sequence[str]) -> Sequence[GroupInfo]:
        """Describe those of the groups that have members; what the engine is asked about many is asked at once."""
        census = await self._engine.census(names)
        infos: dict[str, GroupInfo] = {}

        async def describe(name: str) -> None:
            try:
                infos[name] = await self._describe(name, census[name])
            except EngineError as error:
                failures.append(error)

        failures: list[EngineError] = []
        async with trio.open_nursery() as nursery:
            for name in names:
                if self._audiences(name, census[name]):
                    nursery.start_soon(describe, name)
        if failures:
            raise failures[0]
        return [infos[name] for name in names if name in infos]

    async def _describe(self, name: str, reported: Mapping[str, Audience]) -> GroupInfo:
        group = self._open(name)
        if group is not None:
            info = group.info()
        else:
            position = await self._engine.position(name)
            policy = self._settings.for_group(name).policy.value
            info = GroupInfo(name, 0, position.epoch, position.offset, 0, policy)
        if self._engine.process is None:
            return info
        processes = self._audiences(name, reported)
        everybody = total(processes.values())
        return replace(
            info,
            subscribers=everybody.subscribers,
            behind=everybody.behind,
            approximate=True,
            processes=processes,
        )

    def _open(self, name: str) -> Group | None:
        group = self._groups.get(name)
        return group if group is not None and group.opened.is_set() and not group.ended else None

    def _audiences(self, name: str, reported: Mapping[str, Audience]) -> dict[str, Audience]:
        """Return who has members in a group, by process: of this one it is known, whatever it reported."""
        assert self._engine.process is not None  # noqa: S101 - for the type checker
        found = {process: audience for process, audience in reported.items() if process != self._engine.process}
        group = self._open(name)
        if group is not None and group.subscribers:
            found[self._engine.process] = Audience(group.subscribers, group.behind)
        return found
