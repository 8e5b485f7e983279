"""Tells the server how many subscribers this process has in each group, so that every process knows the sums.

It counts nobody itself, and sums nothing up on the way of a message: the scripts do.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping

import trio

from triocast.engines import Audience, Host
from triocast.engines.redis.keys import PARTITIONS, partition_of
from triocast.engines.redis.store import Store
from triocast.errors import EngineError

logger = logging.getLogger("triocast.redis")

EVERY = 1.0  # seconds between two reports; a third of the time after which a silent process counts no more
REFRESH = 30  # reports until a group is told again that has not changed; the server forgets it after 90 s
BATCH = 500  # groups in one report; the server is busy with them for about a millisecond
TURN = 250  # groups looked at until other tasks have their turn

_NOBODY = Audience(0, 0)


def process_name() -> str:
    """Return a name for this process that no other one has: host, process number and something random."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Reporter:
    """Reports what has changed, in one step for each partition; and now and then what has not.

    A partition whose server can't be reached, or has lost what it was told, is told everything next time.
    """

    def __init__(self, store: Store, process: str, host: Host) -> None:
        self._store = store
        self._process = process
        self._host = host
        self._told: dict[int, dict[str, Audience]] = {}  # by partition: what the server knows of us
        self._unsure: set[int] = set()  # partitions whose server may know something else
        self._failures: list[EngineError] = []  # of this report
        self._failed = False  # whether the last one had any
        self._count = 0

    def __repr__(self) -> str:
        groups = sum(map(len, self._told.values()))
        return f"<Reporter of {self._process}, {groups} groups, {len(self._unsure)} partitions unsure>"

    async def run(self) -> None:
        """Report every second until cancelled; then `leave`, or this process counts for three seconds more."""
        while True:
            began = trio.current_time()
            await self.report()
            await trio.sleep_until(began + EVERY)

    async def leave(self) -> None:
        """Report that nobody is here any more."""
        async with trio.open_nursery() as nursery:
            for partition in list(self._told):
                nursery.start_soon(self._report_partition, partition, {}, False)
        self._note_failures()

    async def report(self) -> None:
        """Report once, to all servers at the same time. A server that can't be reached is told next time."""
        now = await _by_partition(await self._host.counts())
        refreshed = set(range(self._count % REFRESH, PARTITIONS, REFRESH)) | self._unsure
        self._count += 1
        async with trio.open_nursery() as nursery:
            for partition in now.keys() | self._told.keys():
                counts = now.get(partition, {})
                nursery.start_soon(self._report_partition, partition, counts, partition in refreshed)
        self._note_failures()

    def _note_failures(self) -> None:
        failures, self._failures = self._failures, []
        if failures and not self._failed:  # said once, not every second
            logger.info("counts of %d partitions were not reported: %s", len(failures), failures[0])
        self._failed = bool(failures)

    async def _report_partition(self, partition: int, counts: dict[str, Audience], everything: bool) -> None:
        told = self._told.get(partition, {})
        gone = dict.fromkeys(told.keys() - counts.keys(), _NOBODY)
        changed = {group: count for group, count in counts.items() if everything or told.get(group) != count}
        # Until we have an answer it may know of any of them, even if we are cancelled meanwhile.
        self._unsure.add(partition)
        self._told[partition] = told | counts
        try:
            known = await self._send(partition, gone | changed)
            if not known and len(changed) < len(counts):
                await self._send(partition, counts)
        except EngineError as error:
            self._failures.append(error)
            return
        self._unsure.discard(partition)
        self._told[partition] = counts
        if not counts:
            del self._told[partition]

    async def _send(self, partition: int, counts: dict[str, Audience]) -> bool:
        """Return whether the server knew this process before."""
        groups = list(counts)
        known = await self._store.report(partition, self._process, {each: counts[each] for each in groups[:BATCH]})
        for start in range(BATCH, len(groups), BATCH):
            batch = groups[start : start + BATCH]
            await self._store.report(partition, self._process, {each: counts[each] for each in batch})
        return known


async def _by_partition(counts: Mapping[str, Audience]) -> dict[int, dict[str, Audience]]:
    found: dict[int, dict[str, Audience]] = {}
    for number, (group, count) in enumerate(counts.items(), 1):
        found.setdefault(partition_of(group), {})[group] = count
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()
    return found
