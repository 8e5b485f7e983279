"""The ways to listen: by WebSocket or by server-sent events, in a format each.

It connects nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from triocast.client.attempt import Connection
from triocast.client.event_connection import EventConnection
from triocast.client.event_readers import EventReader, JsonEvents, PayloadEvents
from triocast.client.frames import JsonReader, RawReader, Reader
from triocast.client.settings import ListenerSettings
from triocast.client.target import Target
from triocast.client.websocket import WebSocketConnection

TransportName = Literal["websocket", "sse"]
FormatName = Literal["json", "raw"]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to listen: the endpoint and the format that are asked for, and what makes a connection to a path.

    `tells_groups` says that messages of several groups can be told apart; where it `counts`, those of one group are
    counted, because nothing else tells their offsets.
    """

    endpoint: str
    format: str
    connection: Callable[[Target, str, ListenerSettings], Connection]
    tells_groups: bool = True
    counts: bool = False


def way_of(transport: TransportName, form: FormatName, groups: Sequence[str]) -> Way:
    """Return the way to listen to `groups`."""
    if transport == "sse":
        return _by_events(form, groups)
    several = len(groups) > 1
    raw = form == "raw"

    def connection(target: Target, path: str, settings: ListenerSettings) -> Connection:
        reader: Reader = RawReader(groups) if raw else JsonReader()
        return WebSocketConnection(target, path, settings, reader)

    return Way("ws", form, connection, tells_groups=not (raw and several), counts=raw and not several)


def _by_events(form: FormatName, groups: Sequence[str]) -> Way:
    def connection(target: Target, path: str, settings: ListenerSettings) -> Connection:
        reader: EventReader = PayloadEvents(groups) if form == "raw" else JsonEvents()
        return EventConnection(target, path, settings, reader)

    return Way("sse", form, connection)
