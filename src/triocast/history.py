"""A page of a group's history for whoever asks: after or before a position, so many messages, which way.

It gives nothing to members, and keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from triocast.core.message import Gap, GapReason, Message, Position
from triocast.core.recovery import OLDEST, begin, correct
from triocast.engines import Engine
from triocast.errors import InvalidPosition

PAGE = 100  # messages, as many as a group keeps by default
MAX_PAGE = 1000  # messages
PAGE_WEIGHT = 1024 * 1024  # bytes; writing more of them as JSON would hold up the event loop for milliseconds


@dataclass(frozen=True, slots=True)
class History:
    """A page of a group's history, and the `position` of the newest message there was when it was read.

    `gap` names what belongs on the page and is not kept: it comes before the messages, or behind them when they are
    newest first. `next` is the position to continue from; None says that nothing more is kept.
    """

    group: str
    position: Position
    messages: tuple[Message, ...]
    gap: Gap | None = None
    next: Position | None = None


async def read_history(engine: Engine, group: str, since: Position | None, limit: int, *, reverse: bool) -> History:
    """Return what follows the position `since` (None: all that is kept) or, with `reverse`, what comes before it.

    At most `limit` messages, fewer if they are heavy, and at least one if there is one. Raises `ValueError` for a limit
    that is not from 1 to `MAX_PAGE`, `InvalidPosition`, `EngineError`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit is {limit}: a page has 1 to {MAX_PAGE} messages")
    if reverse:
        return await _read_back(engine, group, since, limit)
    return await _read_on(engine, group, OLDEST if since is None else since, limit)


async def _read_on(engine: Engine, group: str, since: Position, limit: int) -> History:
    after = since.offset
    while True:
        page = await engine.read(group, after, limit)
        at = page.position
        beginning = begin(group, since, at, at.offset)
        if beginning.after == after:
            break
        after = beginning.after  # the position is of another history: all that is kept of this one follows it
    oldest = page.messages[0].offset if page.messages else at.offset + 1
    gap = correct(beginning, group, since, at, oldest).gap
    messages = _fitting(page.messages)
    more = bool(messages) and messages[-1].offset < at.offset
    return History(group, at, messages, gap, messages[-1].position if more else None)


async def _read_back(engine: Engine, group: str, since: Position | None, limit: int) -> History:
    if since == OLDEST:
        raise InvalidPosition("nothing comes before 0, the oldest message kept: leave since out to begin at the newest")
    page = await engine.read_back(group, None if since is None else since.offset, limit + 1)  # one more: is there more?
    at = page.position
    if since is not None and since.epoch != at.epoch:
        # All that is kept was published after that position.
        return History(group, at, (), Gap(group, at.epoch, 1, 0, GapReason.EPOCH, before=since.epoch))
    messages = _fitting(page.messages[:limit])
    if len(messages) < len(page.messages):
        return History(group, at, messages, next=messages[-1].position)
    told = messages[-1].offset if messages else at.offset + 1
    oldest = told if since is None else min(told, since.offset)
    gap = Gap(group, at.epoch, 1, oldest - 1, GapReason.LOST) if oldest > 1 else None
    return History(group, at, messages, gap)


def _fitting(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return as many of the first messages as one page carries."""
    weight = 0
    for count, message in enumerate(messages):
        weight += message.weight
        if count and weight > PAGE_WEIGHT:
            return messages[:count]
    return messages
