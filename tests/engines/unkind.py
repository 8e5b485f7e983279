"""An engine as unkind as the protocol allows: it delivers late, twice, out of order and with holes, from a seed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from triocast import Message, Position, Settings
from triocast.engines.memory import MemoryEngine
from triocast.inbox import Inbox, InboxClosed


class UnkindEngine(MemoryEngine):
    """Keeps positions and history as the memory engine does; only the delivery is bad."""

    name = "unkind"
    at_once = False

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__(settings)
        self._random = Random(seed)
        self.lost = 0

    @asynccontextmanager
    async def subscribe(self, group: str, inbox: Inbox) -> AsyncIterator[Position]:
        honest = Inbox(inbox.size)
        honest.notices = inbox.notices  # of who is there it tells the truth
        async with super().subscribe(group, honest) as position, trio.open_nursery() as nursery:
            nursery.start_soon(self._misdeliver, honest, inbox)
            try:
                yield position
            finally:
                nursery.cancel_scope.cancel()
                honest.close()

    async def _misdeliver(self, honest: Inbox, inbox: Inbox) -> None:
        held: list[Message] = []
        while not honest.closed:
            for item in await honest.take():
                assert isinstance(item, Message)
                held.extend([item] * self._random.choice([0, 1, 1, 1, 2]))
                self.lost += item not in held
            self._random.shuffle(held)
            now, held = held[: (cut := self._random.randint(0, len(held)))], held[cut:]
            for message in now:
                await trio.sleep(self._random.choice([0, 0, 0.001, 0.2]))
                try:
                    await inbox.reserve()
                except InboxClosed:
                    return
                inbox.put_nowait(message)
