"""What may be a group's name, and which namespace it belongs to."""

from __future__ import annotations

import re

from triocast.errors import InvalidGroupName

MAX_NAME = 255  # the limit that Centrifuge SDKs know; a name is also a metric's exemplar and a log field
RULE = (
    "a group name has 1 to 255 printable ASCII characters without space, '/', '*', '&', '{' and '}'; "
    "what stands before its first ':' is its namespace"
)

_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)
_FORBIDDEN = frozenset("/*&{}")


def check_group_name(name: str) -> str:
    """Return `name` if it is a group name.

    Raises `InvalidGroupName`, whose message quotes the rule.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not _FORBIDDEN.isdisjoint(name):
        shown = ascii(name)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        raise InvalidGroupName(f"{shown} is not a group name: {RULE}")
    return name


def namespace_of(name: str) -> str:
    """Return what stands before the first `:`; a name without one belongs to the namespace `""`."""
    namespace, colon, _ = name.partition(":")
    return namespace if colon else ""
