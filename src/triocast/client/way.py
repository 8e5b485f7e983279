"""The ways to listen: by WebSocket or by server-sent events, in a format each.

It connects nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from triocast.client.attempt import Attempt, Connection
from triocast.client.event_connection import EventConnection
from triocast.client.event_readers import EventReader, JsonEvents, PayloadEvents
from triocast.client.presence import MAX_PRESENCE, info_text
from triocast.client.readers import JsonReader, RawReader, Reader
from triocast.client.websocket import WebSocketConnection

TransportName = Literal["websocket", "sse"]
FormatName = Literal["json", "raw"]


@dataclass(frozen=True, slots=True)
class About:
    """What a listener says of itself, and wants to be told of others."""

    presence: bool = False
    info: Mapping[str, object] | None = None

    @property
    def options(self) -> list[str]:
        """Parameters of a query, each as NAME=VALUE. Raises `ValueError` or `TypeError` for an `info` that can't be."""
        info = [] if self.info is None else [f"info={quote(info_text(self.info), safe='')}"]
        return [*(["presence=1"] if self.presence else []), *info]

    @property
    def room(self) -> int:
        """How many bytes of members may come at once."""
        return MAX_PRESENCE if self.presence else 0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to listen: the endpoint, the format and the options that are asked for, and what makes a connection.

    `tells_groups` says that messages of several groups can be told apart; where it `counts`, those of one group are
    counted, because nothing else tells their offsets.
    """

    endpoint: str
    format: str
    connection: Callable[[Attempt], Connection]
    options: Sequence[str]
    tells_groups: bool = True
    counts: bool = False


def way_of(transport: TransportName, form: FormatName, groups: Sequence[str], about: About) -> Way:
    """Return the way to listen to `groups`; raises `ValueError` or `TypeError` if there is none."""
    return _by_events(form, groups, about) if transport == "sse" else _by_websocket(form, groups, about)


def _by_websocket(form: FormatName, groups: Sequence[str], about: About) -> Way:
    raw, several = form == "raw", len(groups) > 1
    if raw and about.presence:
        raise ValueError('bare payloads over WebSocket have no room for presence: use format="json"')

    def connection(attempt: Attempt) -> Connection:
        reader: Reader = RawReader(groups) if raw else JsonReader(about.room)
        return WebSocketConnection(attempt, reader)

    counts = raw and not several
    options = [*(["strict=1"] if counts else []), *about.options]
    return Way("ws", form, connection, options, tells_groups=not (raw and several), counts=counts)


def _by_events(form: FormatName, groups: Sequence[str], about: About) -> Way:
    def connection(attempt: Attempt) -> Connection:
        reader: EventReader = PayloadEvents(groups, about.room) if form == "raw" else JsonEvents(about.room)
        return EventConnection(attempt, reader)

    return Way("sse", form, connection, about.options)
