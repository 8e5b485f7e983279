"""What may be a name: of a group and its namespace, of one message (idempotency keys), of a connection (ids)."""

from __future__ import annotations

import re

from triocast.errors import InvalidConnectionId, InvalidGroupName, InvalidIdempotencyKey, InvalidKey

MAX_NAME = 255  # the limit that Centrifuge SDKs know; a name is also a metric's exemplar and a log field
RULE = (
    "a group name has 1 to 255 printable ASCII characters without space, '/', '*', '&', '{' and '}'; "
    "what stands before its first ':' is its namespace"
)

MAX_KEY = 255  # bytes; as long as a group's name may be
KEY_RULE = f"a key names what the message supersedes, in 1 to {MAX_KEY} bytes of UTF-8"

MAX_IDEMPOTENCY_KEY = 255  # characters; a UUID has 36, a digest in hexadecimal 64 or 128
# Without spaces, so that a plus sign that a query turned into one is noticed, and not a key of its own.
IDEMPOTENCY_RULE = f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters without spaces"

MAX_CONNECTION_ID = 64  # characters; ours have 16, and a message that names one is not to grow by more
CONNECTION_RULE = f"a connection's id has 1 to {MAX_CONNECTION_ID} letters, digits, '-' and '_', as its client was told"

_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(rf"[!-~]{{1,{MAX_IDEMPOTENCY_KEY}}}", re.ASCII)
_CONNECTION_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_CONNECTION_ID}}}", re.ASCII)
_FORBIDDEN = frozenset("/*&{}")


def check_group_name(name: str) -> str:
    """Return `name` if it is a group name.

    Raises `InvalidGroupName`, whose message quotes the rule.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not _FORBIDDEN.isdisjoint(name):
        raise InvalidGroupName(f"{_shown(name)} is not a group name: {RULE}")
    return name


def check_key(key: str) -> str:
    """Return `key` if it may name what a message supersedes.

    Raises `InvalidKey`, whose message quotes the rule.
    """
    try:
        size = len(key.encode()) if isinstance(key, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MAX_KEY:
        raise InvalidKey(f"{_shown(key)} is not a key: {KEY_RULE}")
    return key


def check_idempotency_key(key: str) -> str:
    """Return `key` if it may be an idempotency key.

    Raises `InvalidIdempotencyKey`, whose message quotes the rule.
    """
    if not isinstance(key, str) or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidIdempotencyKey(f"{_shown(key)} is not an idempotency key: {IDEMPOTENCY_RULE}")
    return key


def check_connection_id(id_: str) -> str:
    """Return `id_` if it may be the id of a connection, whether there is one or not.

    Raises `InvalidConnectionId`, whose message quotes the rule.
    """
    if not isinstance(id_, str) or not is_connection_id(id_):
        raise InvalidConnectionId(f"{_shown(id_)} is no connection's id: {CONNECTION_RULE}")
    return id_


def is_connection_id(id_: str) -> bool:
    """Whether a connection could have this id."""
    return _CONNECTION_ID.fullmatch(id_) is not None


def namespace_of(name: str) -> str:
    """Return what stands before the first `:`; a name without one belongs to the namespace `""`."""
    namespace, colon, _ = name.partition(":")
    return namespace if colon else ""


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
