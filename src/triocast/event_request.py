"""What a request for server-sent events says: where its client was, and whether a page of its origin may read them.

It answers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triocast.core.access import allowed_origin, header_values
from triocast.core.message import Position
from triocast.core.positions import parse_since
from triocast.errors import InvalidPosition, TooManyGroups
from triocast.settings import Settings

# The positions of all of them go before each event, 30 bytes a group, and come back in a header of the next request.
MAX_EVENT_GROUPS = 32

Headers = list[tuple[bytes, bytes]]


def check_count(groups: Sequence[str], settings: Settings) -> None:
    """Raise `TooManyGroups` for more groups than one client may listen to."""
    limit = min(MAX_EVENT_GROUPS, settings.max_groups_per_connection)
    if len(groups) > limit:
        raise TooManyGroups(f"too many groups: {limit} a client of server-sent events")


def last_event_id(scope: Mapping[str, Any], groups: Sequence[str]) -> Mapping[str, Position] | None:
    """Return what a client has of its groups by the id of the last event that it was given, None if it says nothing.

    Raises `InvalidPosition` for what is no id of a stream of these groups.
    """
    ids = [value.strip() for value in header_values(scope["headers"], b"last-event-id")]
    if not any(ids):
        return None
    texts = ids[0].split(",")
    if len(ids) > 1 or len(texts) != len(groups):
        raise InvalidPosition("Last-Event-ID is the id of an event of this address: a position for each of its groups")
    return {group: parse_since(text.strip()) for group, text in zip(groups, texts, strict=True)}


def cors_headers(scope: Mapping[str, Any], allowed: Sequence[str]) -> Headers:
    """Return what lets pages of `allowed` origins read the answer.

    Cookies come along only from origins that are named: an `allowed` of `*` lets every page listen, as nobody.
    """
    origins, hosts = header_values(scope["headers"], b"origin"), header_values(scope["headers"], b"host")
    vary = [(b"vary", b"Origin")]
    named = [origin for origin in allowed if origin != "*"]
    if not origins:
        return vary
    if allowed_origin(origins, next(iter(hosts), ""), named):
        name = origins[0].encode("latin1")
        return [*vary, (b"access-control-allow-origin", name), (b"access-control-allow-credentials", b"true")]
    if allowed_origin(origins, "", allowed):
        return [*vary, (b"access-control-allow-origin", b"*")]
    return vary
