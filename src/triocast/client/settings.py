"""What can be set about a listener.

Nothing here is read from files or the environment.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import trio

from triocast.client.backoff import BackoffSettings
from triocast.client.stream import dial
from triocast.client.target import Target

Dial = Callable[[Target, "ssl.SSLContext | None"], Awaitable[trio.abc.Stream]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """What can be set about a listener; times in seconds, sizes in bytes.

    `max_message` also bounds memory: at most `max_waiting` + 2 messages are held, then TCP holds the server
    back; of a message in JSON, up to six times as much while it is read. News of members are held as messages are, in
    at most 128 KiB each.
    """

    max_message: int = 1024 * 1024  # the server's own default; text is counted in characters
    max_waiting: int = 16  # rides out a pause of the consumer; 16 MiB of the largest messages
    connect_timeout: float = 10.0  # for dialling, TLS and the handshake, or the head of the answer, together
    close_timeout: float = 2.0  # for the closing handshake; then the socket is closed all the same
    ping_interval: float = 20.0  # below the minute or less after which proxies forget idle connections
    ping_timeout: float = 10.0
    # A stream of events can't be pinged. A server sends a comment every `ping_interval` of its own, 20 s by default.
    max_silence: float = 60.0
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ssl_context: ssl.SSLContext | None = None  # None: the system's certificates
    random: random.Random = field(default_factory=random.Random, repr=False)
    dial: Dial = dial
