"""Who a connection is: a user that the application knows, and what is shown of the client to others.

It authenticates nobody: what a client says of itself stays marked as its claim.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from triocast.errors import InvalidIdentity

MAX_USER = 255  # characters, as a group's name may have
MAX_INFO = 1024  # bytes of JSON: it is kept for every connection, and told of every join
MAX_NESTING = 16  # what a client claims is given to others, whose readers of JSON must be able to follow it
USER_RULE = f"a user is 1 to {MAX_USER} characters of text without control characters"
INFO_RULE = f"info is a JSON object of at most {MAX_INFO} bytes"

Info = Mapping[str, object] | str | bytes
"""What can be given as info: the object, or its JSON text."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection is, as made by `of`.

    `user` is None for somebody anonymous; `info` is a JSON object as compact text, or None. `claimed` says that the
    client itself has said what the info is: it is shown as that, and nothing may be decided by it.
    """

    user: str | None = None
    info: bytes | None = None
    claimed: bool = False

    @classmethod
    def of(cls, user: str | None = None, info: Info | None = None, *, claimed: bool = False) -> Identity:
        """Return the identity of `user` with `info`; without info nothing is claimed. Raises `InvalidIdentity`."""
        if user is None and info is None:
            return ANONYMOUS
        checked = None if user is None else check_user(user)
        return cls(checked, None if info is None else _compact(info), claimed and info is not None)


ANONYMOUS = Identity()
"""Nobody in particular; one object for all of them."""


def check_user(user: str) -> str:
    """Return `user` if it may name one. Raises `InvalidIdentity`, whose message quotes the rule."""
    if not isinstance(user, str) or not 1 <= len(user) <= MAX_USER or any(map(_is_forbidden, user)):
        raise InvalidIdentity(USER_RULE)
    return user


def _is_forbidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")  # control characters, and half characters


def _compact(info: Info) -> bytes:
    try:
        said = info if isinstance(info, Mapping) else _decoded(info)
        text = msgspec.json.encode(said)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidIdentity(f"{INFO_RULE}: {error}") from error
    if len(text) > MAX_INFO:
        raise InvalidIdentity(f"{INFO_RULE}, not {len(text)}")
    return text


def _decoded(text: str | bytes) -> dict[str, object]:
    if len(text) > MAX_INFO:  # a longer one is not read at all; one with wide characters is still judged by its bytes
        raise InvalidIdentity(f"{INFO_RULE}, not {len(text)}")
    said = msgspec.json.decode(text, type=dict[str, object])
    if _is_nested(said, MAX_NESTING):
        raise InvalidIdentity(f"{INFO_RULE}, nested {MAX_NESTING} deep at most")
    return said


def _is_nested(value: object, most: int) -> bool:
    """Whether there is a container in a container, and so on, more than `most` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_nested(each, most - 1) for each in inner)
