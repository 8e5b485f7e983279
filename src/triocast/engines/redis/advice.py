"""Says what it means how a server keeps what it is given: one that we did not start may be set up as a cache.

It changes nothing there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from triocast.errors import EngineError

if TYPE_CHECKING:
    from triocast.engines.redis.wire import Wire

logger = logging.getLogger("triocast.redis")


async def advise(wire: Wire) -> None:
    """Warn of a server that may lose what it has acknowledged; one that does not say how it is set up is left alone."""
    try:
        reply = await wire.call(b"CONFIG", b"GET", b"appendonly", b"maxmemory-policy")
    except EngineError as error:
        logger.debug("%s does not tell how it keeps its data: %s", wire.name, error)
        return
    told = {name.decode(): value.decode() for name, value in reply.items()} if isinstance(reply, dict) else {}
    for text in warnings_about(told):
        logger.warning("%s: %s", wire.name, text)


def warnings_about(config: Mapping[str, str]) -> Iterator[str]:
    """Return what an operator should know about a server that is set up like this."""
    if config.get("appendonly") == "no":
        yield (
            "appendonly is no, so when it restarts it forgets messages that it has acknowledged, and every client of a"
            " group that lost some is told that its history began afresh; set appendonly yes to keep them"
        )
    policy = config.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}, so when its memory is full it drops groups with their history, and their"
            " clients are told that it began afresh; with noeviction it refuses what is published instead"
        )
