"""How a publish is asked for beside its message: key, idempotency key, whom it excludes, where its group has to be.

It publishes nothing, and reads no message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from werkzeug.exceptions import BadRequest

from triocast.core.names import MAX_KEY, check_connection_id, check_idempotency_key, check_key
from triocast.core.positions import parse_since
from triocast.web import query

OPTIONS: Mapping[str, str] = {
    "key": f"key names what the message supersedes: 1 to {MAX_KEY} bytes, given once",
    "idempotency_key": "idempotency_key names the one message that this is: give it once",
    "exclude": "exclude is the id of the one connection that is not given the message: give it once",
    "expected": "expected is where the group has to be, EPOCH:OFFSET, or 0 before its first message: give it once",
}
"""What can be said, and how it is said right."""


def asked_options(query_string: bytes, *beside: str) -> dict[str, str]:
    """Return the options that a query has; `beside` are names of other things in it.

    Raises `BadRequest` for one that is given twice, and for a name that is none: misspelt, `expected` would publish
    whatever has come meanwhile, and `idempotency_key` twice.
    """
    if not query_string:
        return {}
    asked = query.all_texts(query_string)
    unknown = next((name for name in asked if name not in OPTIONS and name not in beside), None)
    if unknown is not None:
        raise BadRequest(f"no such option: {unknown[:40]!r}; there are {', '.join(OPTIONS)}")
    for name, rule in OPTIONS.items():
        if len(asked.get(name, ())) > 1:
            raise BadRequest(rule)
    return {name: asked[name][0] for name in OPTIONS if name in asked}


def checked_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a `Draft` that options mean; those that are not there are left as they are.

    Raises `InvalidKey`, `InvalidIdempotencyKey`, `InvalidConnectionId` and `InvalidPosition`.
    """
    return {name: _READERS[name](text) for name, text in options.items()}


_READERS: Mapping[str, Callable[[str], object]] = {
    "key": check_key,
    "idempotency_key": check_idempotency_key,
    "exclude": check_connection_id,
    "expected": parse_since,
}
