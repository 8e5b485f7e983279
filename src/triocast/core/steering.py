"""What can be asked of the processes that have a client: to close its connection, or to take it out of a group.

It closes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from triocast.errors import FORCED, MAX_REASON, Close, InvalidClose

# Those of RFC 6455, 7.4.1, that say something to a client whose server wants it gone, then what libraries and
# applications may choose by 7.4.2.
CODES = frozenset({1000, 1008, 1011, 1012, 1013, *range(3000, 5000)})
RULE = "a close code is 1000, 1008, 1011, 1012, 1013, or from 3000 to 4999"


@dataclass(frozen=True, slots=True)
class Order:
    """Whom to part with: the connection `client`, or all of `user`. With a `group` they are taken out of that, else
    closed; `close` is what they are told."""

    close: Close
    client: str | None = None
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many connections an order was carried out on, in all processes.

    It is `approximate` if some process has not said in time: it may have carried the order out, or will yet.
    """

    count: int
    approximate: bool = False


def close_of(code: int = FORCED.code, reason: str | None = None) -> Close:
    """Return the close that says this; without a reason, 3503 has one of its own and others have none.

    Raises `InvalidClose` for a code that can't be said, and for a reason that a close frame has no room for.
    """
    if code not in CODES:
        raise InvalidClose(f"{code} can't be said to a client: {RULE}")
    close = FORCED if code == FORCED.code else Close(code, "")
    if reason is None:
        return close
    if len(reason.encode(errors="replace")) > MAX_REASON or not _is_unicode(reason):
        raise InvalidClose(f"a reason is text of at most {MAX_REASON} bytes of UTF-8")
    return replace(close, reason=reason)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
