"""Takes those in who listen to server-sent events: how many groups, the Origin rule, and which way they are written to.

It knows ASGI and the link's handle, and no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from triocast import link
from triocast.connection import Connection, open_connection
from triocast.core.access import allowed_origin
from triocast.core.message import Position
from triocast.core.positions import parse_since
from triocast.core.recovery import wishes_of
from triocast.errors import InvalidPosition, TooManyGroups
from triocast.reception import Reception
from triocast.settings import Settings
from triocast.transports.events import Call, DirectEvents, Listening, PortableEvents

# The positions of all of them go before each event, 30 bytes a group, and come back in a header of the next request.
MAX_EVENT_GROUPS = 32

Headers = list[tuple[bytes, bytes]]


class EventReception(Reception):
    """Where those who listen to the events of one hub come in."""

    def events(self, call: Call, listening: Listening) -> AbstractAsyncContextManager[Connection]:
        """Return what answers the request and runs its client's connection around a block.

        A client that comes back and says so by Last-Event-ID goes on there, whatever else it asks for: an EventSource
        repeats its address. Raises `ForeignOrigin`, `TooManyGroups` and `InvalidPosition`; entering the block raises
        what `open_connection` does. The request is not answered then.
        """
        self._check_origin(call.scope)
        check_count(listening.groups, self._hub.settings)
        known = last_event_id(call.scope, listening.groups)
        if known is not None:
            listening = replace(listening, since=known, last=None)
        groups = listening.groups
        wishes = wishes_of(groups, listening.since, listening.last)
        return open_connection(self._hub, self._way(call, listening), groups, wishes, strict=listening.strict)

    def _way(self, call: Call, listening: Listening) -> PortableEvents:
        handle: link.Handle | None = (call.scope.get("state") or {}).get(link.LINK_KEY)
        settings = self._hub.settings
        if handle is None:
            return PortableEvents(call, listening, settings, None)
        self._drain_with(handle)
        if handle.takes_frames and call.scope["http_version"] == "1.1":
            return DirectEvents(call, listening, settings, handle)
        return PortableEvents(call, listening, settings, handle)


def check_count(groups: Sequence[str], settings: Settings) -> None:
    """Raise `TooManyGroups` for more groups than one client may listen to."""
    limit = min(MAX_EVENT_GROUPS, settings.max_groups_per_connection)
    if len(groups) > limit:
        raise TooManyGroups(f"too many groups: {limit} a client of server-sent events")


def last_event_id(scope: Mapping[str, Any], groups: Sequence[str]) -> Mapping[str, Position] | None:
    """Return what a client has of its groups by the id of the last event that it was given, None if it says nothing.

    Raises `InvalidPosition` for what is no id of a stream of these groups.
    """
    ids = [value.decode("latin1").strip() for name, value in scope["headers"] if name.lower() == b"last-event-id"]
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
    origins = [value.decode("latin1") for name, value in scope["headers"] if name.lower() == b"origin"]
    hosts = [value.decode("latin1") for name, value in scope["headers"] if name.lower() == b"host"]
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
