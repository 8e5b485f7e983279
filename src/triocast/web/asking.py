"""Reads what a client asks for that subscribes, by WebSocket or otherwise, from the address it uses.

It answers nothing: what is wrong is a sentence, short enough for a close frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from triocast.core.identity import INFO_RULE, Identity
from triocast.core.listening import Listening
from triocast.core.message import Position
from triocast.core.names import check_group_name
from triocast.core.positions import parse_since
from triocast.core.wire import FORMATS, FormatName
from triocast.errors import InvalidGroupName, InvalidIdentity, InvalidPosition
from triocast.settings import Settings

# `core.names.RULE` is longer than a close frame's reason may be.
BAD_NAME = "not a group name: it has 1 to 255 printable ASCII characters without space / * & { }"
NO_GROUP = "no group: connect to /ws/GROUP, or to /ws?group=A&group=B for several"
BAD_FORMAT = f"no such format: it is one of {', '.join(FORMATS)}, given once"
BAD_STRICT = "strict is 1 or 0, given once"
BAD_SINCE = "since is EPOCH:OFFSET, or 0 for the oldest kept, once for each group and in their order"
BAD_LAST = "last is how many messages to begin with, from 1 on, given once and without since"
BAD_INFO = f"{INFO_RULE}, given once"
BAD_PRESENCE = "presence is 1 or 0, given once"
NO_PRESENCE = "who is there is not told: presence is off for this group"
USUAL = {"format": "raw", "strict": "0", "presence": "0"}
Said = Mapping[str, Sequence[str]]
"""Values by name, as `query.all_texts` gives them."""

MAX_DIGITS = 9  # of `last`; more messages than that nobody keeps


def read_asked(group: str | None, said: Said, settings: Settings) -> Listening | str:
    """Return what is asked for, or why that can't be. `said` are the fields of the query; `group` is the path's, None
    if the query names the groups."""
    asked = said.get("group", []) if group is None else [group] if group else []
    form, strict, presence = (said.get(name, [usual]) for name, usual in USUAL.items())
    since = _since(asked, said.get("since", []))
    last = _last(said.get("last", []))
    identity = _claimed(said.get("info", []))
    groups = list(dict.fromkeys(asked))
    wrong = _wrong_way(form, strict, presence) or _wrong_groups(groups, settings)
    if wrong is not None:
        return wrong
    if since is None:
        return BAD_SINCE
    if last == 0 or (last is not None and since):
        return BAD_LAST
    if identity is None:
        return BAD_INFO
    if presence[0] == "1" and not all(settings.for_group(name).presence for name in groups):
        return NO_PRESENCE
    return Listening(groups, since, last, cast("FormatName", form[0]), strict[0] == "1", presence[0] == "1", identity)


def _wrong_way(form: Sequence[str], strict: Sequence[str], presence: Sequence[str]) -> str | None:
    if len(form) > 1 or form[0] not in FORMATS:
        return BAD_FORMAT
    if len(strict) > 1 or strict[0] not in ("0", "1"):
        return BAD_STRICT
    return BAD_PRESENCE if len(presence) > 1 or presence[0] not in ("0", "1") else None


def _since(groups: Sequence[str], texts: Sequence[str]) -> Mapping[str, Position] | None:
    if not texts:
        return {}
    if len(texts) != len(groups) or len(set(groups)) != len(groups):
        return None
    try:
        return dict(zip(groups, map(parse_since, texts), strict=True))
    except InvalidPosition:
        return None


def _last(texts: Sequence[str]) -> int | None:
    """Return the number, None if there is none, and 0 if it is not one."""
    if not texts:
        return None
    text = texts[0]
    return int(text) if len(texts) == 1 and len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() else 0


def _claimed(texts: Sequence[str]) -> Identity | None:
    """Return who the client says that it is, None if that makes no sense."""
    if len(texts) > 1:
        return None
    try:
        return Identity.of(None, texts[0] if texts else None, claimed=True)
    except InvalidIdentity:
        return None


def _wrong_groups(groups: Sequence[str], settings: Settings) -> str | None:
    limit = settings.max_groups_per_connection
    if not groups:
        return NO_GROUP
    if len(groups) > limit:
        return f"too many groups: {limit} a connection (max_groups_per_connection)"
    try:
        for group in groups:
            check_group_name(group)
    except InvalidGroupName:
        return BAD_NAME
    return None
