"""The cases: what is measured, on whom, and in a sentence why.

Numbers that a bar names are the bar's; the others are chosen so that a run takes seconds, not minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from benchmarks.client import Load

SECONDS = 3.0
PLENTY = 1_000_000  # messages: the time ends these cases, not the count
KIB = 1024
STALLED = 200
STALLED_AT_EXIT = 100
GRACE = 3.0
LOG_BYTES = 4 * KIB * KIB  # max_lag_bytes by default: what the log itself may hold


class Peers(Enum):
    """Whether the peers run a case: in every round, in the first alone because it shows all there is, or not."""

    ALWAYS = "always"
    ONCE = "once"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `options` are given to `triocast serve`; `terminate` ends the server while the clients are there."""

    name: str
    title: str
    what: str
    load: Load
    floor: bool = False
    bare: bool = False
    peers: Peers = Peers.NEVER
    options: tuple[str, ...] = ()
    terminate: bool = False

    def quick(self) -> Case:
        """The same case with a tenth of everything: shows that it works, not what it measures."""
        load = self.load
        small = replace(
            load,
            subscribers=max(load.subscribers // 10, min(load.subscribers, 10)),
            stalled=load.stalled // 10,
            messages=min(load.messages, PLENTY if load.seconds <= SECONDS else 100),
            warmup=min(load.warmup, 50),
            seconds=min(load.seconds, 0.5) if load.messages == PLENTY else load.seconds,
            patience=5.0,
        )
        return replace(self, load=small)


def _fan(name: str, title: str, what: str, load: Load) -> Case:
    load = replace(load, messages=PLENTY, seconds=SECONDS, warmup=10)
    return Case(name=name, title=title, what=what, load=load, floor=True, peers=Peers.ALWAYS)


_CROWD = Load(subscribers=500, payload=16 * KIB, messages=PLENTY, seconds=SECONDS, warmup=100, patience=10.0)
_PATIENT = ("--write-timeout", "600")
_PUBLISHES = Load(subscribers=1, publishers=16, messages=PLENTY, seconds=SECONDS, warmup=200)

CASES = (
    _fan(
        "one-publisher",
        "One publisher, 1,000 subscribers, 64 B",
        "One HTTP publisher sends 64 bytes, waits for its answer, and sends again; each of 1,000 WebSockets gets it.",
        Load(subscribers=1000),
    ),
    _fan(
        "sixteen-publishers",
        "16 publishers, 1,000 subscribers, 64 B",
        "The same with 16 publishers, each with one request in flight: a server may put what waits into one write.",
        Load(subscribers=1000, publishers=16),
    ),
    _fan(
        "payload-1k", "One publisher, 1,000 subscribers, 1 KB", "Payloads of 1 KB.", Load(subscribers=1000, payload=KIB)
    ),
    _fan(
        "payload-16k",
        "One publisher, 1,000 subscribers, 16 KB",
        "Payloads of 16 KB: copying begins to count.",
        Load(subscribers=1000, payload=16 * KIB),
    ),
    _fan(
        "subscribers-100",
        "One publisher, 100 subscribers, 64 B",
        "A small group, where the publish itself weighs more than its deliveries.",
        Load(subscribers=100),
    ),
    _fan(
        "subscribers-10000",
        "One publisher, 10,000 subscribers, 64 B",
        "A large group: a round takes long, and nothing else may wait for it.",
        Load(subscribers=10_000, patience=30.0),
    ),
    Case(
        name="nobody-stalled",
        title="500 subscribers, 16 KB, nobody stalled",
        what="What the next case is held against: 500 readers, payloads of 16 KB, as fast as they go.",
        load=_CROWD,
        peers=Peers.ONCE,
        options=_PATIENT,
    ),
    Case(
        name="isolation",
        title="500 subscribers and 200 that never read, 16 KB",
        what="The same 500 beside 200 clients that connect and never read. Counted once the receipts show all 200 "
        "behind; nobody is evicted (write_timeout 600 s).",
        load=replace(_CROWD, stalled=STALLED),
        peers=Peers.ONCE,
        options=_PATIENT,
    ),
    Case(
        name="memory",
        title="200 that never read while 100 MB is published",
        what="The same set-up while 6,400 messages of 16 KB are published. What the server's memory grows by at its "
        "peak, less the 4 MiB that the group's log may hold, is shared out among the 200.",
        load=replace(_CROWD, stalled=STALLED, messages=6400, seconds=3600.0),
        options=_PATIENT,
    ),
    Case(
        name="connects",
        title="5,000 idle connections",
        what="5,000 WebSockets connect, 64 handshakes at once, and stay idle: connects a second, CPU for each, and "
        "what the server's memory has grown by once all is quiet.",
        load=Load(subscribers=5000, publishers=0, patience=30.0),
        bare=True,
        peers=Peers.ONCE,
    ),
    Case(
        name="publishes-http",
        title="Publishes over HTTP, 16 connections, one subscriber",
        what="16 keep-alive connections, each with one publish of 64 bytes in flight. The bare application reads the "
        "body and answers `ok`, to nobody.",
        load=_PUBLISHES,
        bare=True,
    ),
    Case(
        name="publishes-http-one",
        title="Publishes over HTTP, one connection, one subscriber",
        what="The same over one connection: the round trip of a publish.",
        load=replace(_PUBLISHES, publishers=1),
        bare=True,
    ),
    Case(
        name="publishes-websocket",
        title="Publishes over one WebSocket",
        what="One WebSocket (`client_publish`) is publisher and subscriber at once, up to 256 of its messages on their "
        "way.",
        load=replace(_PUBLISHES, publishers=1, by_websocket=True),
        options=("--client-publish",),
    ),
    Case(
        name="sigterm",
        title="SIGTERM with 100 that never read",
        what="100 clients that never read are behind, one reads; then SIGTERM. The grace time is 3 s.",
        load=Load(subscribers=1, stalled=STALLED_AT_EXIT, payload=16 * KIB, messages=200, warmup=100),
        options=("--grace", str(GRACE), *_PATIENT),
        terminate=True,
    ),
)
