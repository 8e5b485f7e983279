"""The settings: one frozen object, each field with its bounds, its default and the reason for it.

The file, the environment, the command line and the documentation derive from these fields; nothing is spelled
twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Annotated

from msgspec import Meta

from triocast.core.names import namespace_of
from triocast.core.overflow import Policy
from triocast.core.recovery import Join

KIB = 1024
MIB = 1024 * KIB

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 365)]


class LogFormat(Enum):
    """How `triocast serve` writes its log: for people, or one JSON object a line."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(Enum):
    """The least serious event that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What a namespace may set for its groups; the server's own values are those of every other namespace."""

    policy: Annotated[
        Policy,
        Meta(
            description="what happens when a client lags by more than max_lag: drop_oldest, drop_newest, latest, "
            "disconnect or block"
        ),
    ] = Policy.DROP_OLDEST
    max_lag: Annotated[
        Count,
        Meta(description="messages a client may be behind; a second of 1,000 messages rides out a short stall"),
    ] = 1024
    max_lag_bytes: Annotated[
        Count,
        Meta(
            description="bytes a client may be behind (payload + key + excluded id + 64 each); four messages of the "
            "largest size"
        ),
    ] = 4 * MIB
    block_timeout: Annotated[
        Seconds,
        Meta(description="seconds a publish to a group with policy block waits for laggards before it is refused"),
    ] = 5.0
    inbox: Annotated[
        Count,
        Meta(description="messages that wait for a group's broadcaster; when it is full publishers wait"),
    ] = 64
    history_size: Annotated[int, Meta(ge=0, description="messages kept for those who come back; 0 keeps none")] = 100
    history_ttl: Annotated[
        Seconds, Meta(description="seconds a message is kept; a reconnecting phone is back within a minute")
    ] = 60.0
    history_bytes: Annotated[Count, Meta(description="bytes of messages kept; the newest that fit stay")] = 1 * MIB
    recovery_limit: Annotated[
        Count,
        Meta(description="messages a client that comes back is given at most; what is older is named by a gap"),
    ] = 10_000
    join: Annotated[
        Join,
        Meta(description="what a new client begins with: live, or last for the newest message (of each key) first"),
    ] = Join.LIVE
    max_keys: Annotated[
        Count,
        Meta(description="keys whose newest message a group keeps for join = last; one more, and the most silent goes"),
    ] = 1000
    presence: Annotated[
        bool, Meta(description="let those who may listen to a group see who else does, and who comes and goes")
    ] = True
    presence_grace: Annotated[
        Annotated[float, Meta(ge=0, le=3600)],
        Meta(description="seconds until a leave is told; who is back by then, as after reloading a page, never left"),
    ] = 0.0
    client_publish: Annotated[
        bool, Meta(description="publish what clients send on /ws to their group, instead of closing them")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(GroupSettings):
    """Everything that can be set, validated; the group settings here hold for every namespace not named."""

    bind: Annotated[
        tuple[str, ...], Meta(description="addresses to listen on: HOST:PORT, [IPV6]:PORT or unix:PATH")
    ] = ("127.0.0.1:8000",)
    certfile: Annotated[str | None, Meta(description="PEM certificate chain; with keyfile, serve TLS")] = None
    keyfile: Annotated[str | None, Meta(description="PEM private key of certfile")] = None
    insecure: Annotated[bool, Meta(description="listen beyond loopback without an api_key: anyone may publish")] = False
    # Never in the repr: settings end up in logs and tracebacks, a key must not.
    api_key: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="key that publishing and /groups need; without one they are open to loopback only"),
    ] = field(default=None, repr=False)
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins whose pages may connect beside our own, as https://host[:port]; * allows all"),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="proxies (an address, a network, or unix) whose X-Forwarded-* headers are believed"),
    ] = ()

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)],
        Meta(description="processes that serve, one for each core; more than one share an engine"),
    ] = 1
    # Never in the repr: there may be a password in it.
    engine: Annotated[
        str | None,
        Meta(
            description="memory, or the URL of a Redis or Valkey (redis://HOST:PORT) that joins processes and "
            "machines; without it one worker has memory, several have a Valkey of their own"
        ),
    ] = field(default=None, repr=False)
    data_dir: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="folder in which the workers' own Valkey keeps history and positions over restarts; without it "
            "they go when the server does"
        ),
    ] = None

    max_message: Annotated[Count, Meta(description="bytes in one message, published or sent by a client")] = 1 * MIB
    compression: Annotated[
        bool,
        Meta(description="compress messages, once for all WebSockets that can read it (permessage-deflate); costs CPU"),
    ] = False
    max_connections: Annotated[
        Count, Meta(description="clients connected at once to one worker; about half a gigabyte at 50 KB each")
    ] = 10_000
    max_groups_per_connection: Annotated[
        Count, Meta(description="groups one client may be in; the limit Centrifuge SDKs meet elsewhere")
    ] = 128
    max_groups: Annotated[
        Count, Meta(description="groups whose position is remembered while nobody is in them; about 50 MB")
    ] = 100_000
    idempotency_keys: Annotated[
        Count,
        Meta(
            description="idempotency keys remembered, each for 300 s; about 60 MB; one more, and its publish is refused"
        ),
    ] = 100_000
    history_memory: Annotated[
        Count,
        Meta(description="bytes of history of all groups together; beyond it the longest silent group loses its own"),
    ] = 256 * MIB
    position_ttl: Annotated[
        Seconds,
        Meta(description="seconds a position is remembered; a phone off overnight can still be told what it missed"),
    ] = 86_400.0
    pinned_bytes: Annotated[
        Count, Meta(description="bytes that clients frozen by drop_newest hold together; beyond it they are closed")
    ] = 64 * MIB
    max_inbound: Annotated[Count, Meta(description="messages from one client that wait for its handler")] = 64
    max_inbound_bytes: Annotated[Count, Meta(description="bytes from one client that wait for its handler")] = 1 * MIB
    inbound_timeout: Annotated[
        Seconds,
        Meta(description="seconds a full inbound queue may stay untaken before its client is closed with 1008"),
    ] = 10.0
    max_handshakes: Annotated[
        Count,
        Meta(description="WebSocket handshakes worked on at once; a thousand held up the event loop for 147 ms"),
    ] = 64
    max_header: Annotated[Count, Meta(description="bytes in a request's line and headers")] = 16 * KIB
    header_timeout: Annotated[
        Seconds,
        Meta(description="seconds from connecting to the end of the request's headers, TLS handshake included"),
    ] = 10.0
    body_timeout: Annotated[Seconds, Meta(description="seconds for the body of a request to arrive")] = 30.0
    keep_alive: Annotated[Seconds, Meta(description="seconds an idle HTTP connection is kept")] = 60.0
    ping_interval: Annotated[
        Seconds,
        Meta(description="seconds of silence until a WebSocket is pinged, a comment streamed; proxies cut after 30"),
    ] = 20.0
    ping_timeout: Annotated[
        Seconds,
        Meta(description="seconds a pinged client has to send anything before it is reset; a bad radio link takes 5"),
    ] = 10.0
    write_timeout: Annotated[
        Seconds, Meta(description="seconds a client may take nothing of what is written before it is reset")
    ] = 10.0
    engine_timeout: Annotated[
        Seconds,
        Meta(description="seconds Redis has for an answer, before a publish is answered with unknown_outcome"),
    ] = 5.0
    hook_queue: Annotated[
        Count,
        Meta(description="joins and leaves that wait for the application's hooks; more are dropped, and counted"),
    ] = 10_000
    hook_timeout: Annotated[
        Seconds, Meta(description="seconds a hook may take for one join or leave before it is cancelled")
    ] = 10.0
    close_timeout: Annotated[Seconds, Meta(description="seconds to wait for the other side once a close is sent")] = 5.0
    grace: Annotated[
        Seconds,
        Meta(description="seconds from SIGTERM until whatever is left is cut off; what orchestrators wait, and less"),
    ] = 10.0
    shutdown_spread: Annotated[
        Annotated[float, Meta(ge=0, le=86_400 * 365)] | None,
        Meta(
            description="seconds over which clients are told to go, evenly and in random order; without it as long as "
            "200 a second take, at most half of grace, and no time at all with engine memory: nobody else takes them"
        ),
    ] = None
    log_level: Annotated[LogLevel, Meta(description="least serious event that is logged")] = LogLevel.INFO
    log_format: Annotated[
        LogFormat, Meta(description="console or json; auto is console on a terminal, json elsewhere")
    ] = LogFormat.AUTO

    namespaces: Annotated[
        Mapping[str, GroupSettings],
        Meta(description="group settings by namespace; what one leaves out it takes from the server's own"),
    ] = field(default_factory=lambda: MappingProxyType({}))

    def for_group(self, name: str) -> GroupSettings:
        """Return what holds for the group `name`: its namespace's settings, or the server's own."""
        return self.namespaces.get(namespace_of(name), self)
