"""The cases: what is measured, on whom, and in a sentence why.

Numbers that a bar names are the bar's; the others are chosen so that a run takes seconds, not minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from benchmarks.client import Load
from benchmarks.targets import PAIR, WORKERS

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


class Way(Enum):
    """How a case is run: by the load client alone, or by what else it takes."""

    LOAD = "load"
    JITTER = "jitter"  # clients that are cut off and come back
    JITTER_VIRTUAL = "jitter-virtual"  # the same in memory, on a virtual clock
    STORM = "storm"  # beside the load, clients that all come back at once
    STORM_IN_MEMORY = "storm-in-memory"  # the same in one process
    ARRIVALS = "arrivals"  # beside the load, clients that all join its group at once
    AGAINST = "against"  # on two servers with different options, in turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Clients that all come back at once, several times one after another; each has missed so many messages."""

    clients: int
    storms: int
    missed: int = 50
    before: float = 10.0  # seconds of the load alone, which the storm is held against
    asking: bool = False  # they ask for presence, too

    def quick(self) -> Storm:
        """A tenth of it."""
        return replace(self, clients=self.clients // 10, storms=1, before=self.before / 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `options` are given to `triocast serve`; `terminate` ends the server while the clients are there.

    `beside` names the set-ups of several processes that it is measured on, after the one process on its own.
    `against` are the options of a second server, beside which the first is measured in turn.
    `kept` says that the memory counts which the server has once all is quiet again; `once`, that one round is enough.
    """

    name: str
    title: str
    what: str
    load: Load
    floor: bool = False
    bare: bool = False
    peers: Peers = Peers.NEVER
    beside: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    terminate: bool = False
    kept: bool = False
    once: bool = False
    way: Way = Way.LOAD
    storm: Storm | None = None
    against: tuple[str, ...] = ()

    def quick(self) -> Case:
        """The same case with a tenth of everything: shows that it works, not what it measures."""
        load = self.load
        small = replace(
            load,
            subscribers=max(load.subscribers // 10, min(load.subscribers, 16)),
            stalled=load.stalled // 10,
            messages=min(load.messages, PLENTY if load.seconds <= SECONDS else 100),
            warmup=min(load.warmup, 50),
            seconds=min(load.seconds, 0.5) if load.messages == PLENTY else load.seconds,
            patience=5.0,
        )
        if self.storm is None:
            return replace(self, load=small)
        lasting = replace(small, messages=load.messages, seconds=load.seconds)  # its storm says how long it lasts
        return replace(self, load=lasting, storm=self.storm.quick())


def _fan(name: str, title: str, what: str, load: Load) -> Case:
    load = replace(load, messages=PLENTY, seconds=SECONDS, warmup=10)
    return Case(name=name, title=title, what=what, load=load, floor=True, peers=Peers.ALWAYS)


_CROWD = Load(subscribers=500, payload=16 * KIB, messages=PLENTY, seconds=SECONDS, warmup=100, patience=10.0)
_PATIENT = ("--write-timeout", "600")
_PUBLISHES = Load(subscribers=1, publishers=16, messages=PLENTY, seconds=SECONDS, warmup=200)

_THOUSAND = Load(subscribers=1000, messages=PLENTY, seconds=SECONDS, warmup=50)
# 200 messages a second are a tenth of a core: what the storm is to leave alone has room enough.
_LIVE = Load(
    subscribers=50,
    publishers=16,
    rate=200.0,
    messages=PLENTY,
    warmup=400,
    path="/ws/live",
    publish_path="/publish/live",
)
# 50 messages a second to 200 members are as many deliveries, and ten of them are under way while one joins.
_MEMBERS = Load(
    subscribers=200,
    publishers=16,
    rate=50.0,
    messages=PLENTY,
    warmup=100,
    json=True,
    path="/ws/live?format=json&presence=1",
    publish_path="/publish/live",
)
_MILLION = Load(subscribers=4, payload=256, warmup=10_000, messages=990_000, patience=30.0)

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
        name="workers-fan-out",
        title="One publisher, 1,000 subscribers, 64 B: one process, and two workers",
        what="One HTTP publisher, 64 bytes, 1,000 WebSockets: on one process, and on `--workers 2` with their own "
        "Valkey, whose CPU counts.",
        load=_THOUSAND,
        beside=(WORKERS,),
    ),
    Case(
        name="across",
        title="From one process to another",
        what="One HTTP publisher and one WebSocket, 64 bytes: both at one process; and at one server each, joined by "
        "Valkey.",
        load=replace(_PUBLISHES, publishers=1),
        beside=(PAIR,),
    ),
    Case(
        name="workers-publishes",
        title="Publishes over HTTP, 16 connections, to two servers",
        what="16 keep-alive connections, each with one publish of 64 bytes in flight, and two WebSockets: on one "
        "process; and half of each at each of two servers joined by Valkey.",
        load=replace(_PUBLISHES, subscribers=2, spread=True),
        beside=(PAIR,),
    ),
    Case(
        name="workers-publishes-websocket",
        title="Publishes over 16 WebSockets, to two servers",
        what="The same over 16 WebSockets (`client_publish`), each with one of its messages on its way: each is a "
        "publisher and a subscriber.",
        load=replace(_PUBLISHES, subscribers=16, publishers=16, by_websocket=True, window=1, spread=True),
        options=("--client-publish",),
        beside=(PAIR,),
    ),
    Case(
        name="sigterm",
        title="SIGTERM with 100 that never read",
        what="100 clients that never read are behind, one reads; then SIGTERM. The grace time is 3 s.",
        load=Load(subscribers=1, stalled=STALLED_AT_EXIT, payload=16 * KIB, messages=200, warmup=100),
        options=("--grace", str(GRACE), *_PATIENT),
        terminate=True,
    ),
    Case(
        name="fan-out-websocket",
        title="1,000 WebSockets, as in the next case",
        what="What the next case is held against, right before it: one HTTP publisher, 64 bytes, 1,000 WebSockets.",
        load=_THOUSAND,
    ),
    Case(
        name="fan-out-sse",
        title="1,000 clients of server-sent events",
        what="The same with 1,000 clients of `/sse/<group>`: an event is longer by its id and the words around it.",
        load=replace(_THOUSAND, sse=True),
    ),
    Case(
        name="jitter",
        title="200 clients on a bad network, 20 s",
        what="200 listeners (the Python client, in processes of their own) are cut off at random every 15 s on the "
        "average, each time for 2 s, while 20 messages a second are published. Settings as they are by default.",
        load=Load(subscribers=200, rate=20.0, messages=400),
        way=Way.JITTER,
    ),
    Case(
        name="jitter-virtual",
        title="1,000 clients on a bad network, 60 virtual seconds",
        what="The same with 1,000 clients in memory, on a virtual clock (`python -m tests.jitter`); its seed decides "
        "everything, so once is enough.",
        load=Load(subscribers=1000, rate=20.0, messages=1200),
        way=Way.JITTER_VIRTUAL,
        once=True,
    ),
    Case(
        name="storm",
        title="1,000 clients come back at once",
        what="50 clients of one group are sent 200 messages a second, first alone, for 10 s. Then 1,000 clients of "
        "another group connect at once, each with a position from which on it has missed 50 messages; five times.",
        load=_LIVE,
        way=Way.STORM,
        storm=Storm(clients=1000, storms=5),
    ),
    Case(
        name="storm-in-memory",
        title="10,000 clients come back at once, in memory",
        what="The same with 10,000 clients in the server's own process, without a network: the application is called "
        "as a server would, at the pace at which ours accepts clients.",
        load=_LIVE,
        way=Way.STORM_IN_MEMORY,
        storm=Storm(clients=10_000, storms=1),
    ),
    Case(
        name="presence-joins",
        title="1,000 clients join a group whose members are told who comes",
        what="200 members of a group ask for presence and are sent 50 messages a second, first alone, for 10 s. Then "
        "1,000 more join the same group at once, three times. Each of the 200 must be told of each of them exactly "
        "once, that it came and that it went.",
        load=_MEMBERS,
        way=Way.ARRIVALS,
        storm=Storm(clients=1000, storms=3),
    ),
    Case(
        name="presence-joins-asking",
        title="The same, and those who join ask for presence, too",
        what="The same with 1,000 clients that want to know who is there themselves.",
        load=_MEMBERS,
        way=Way.ARRIVALS,
        storm=Storm(clients=1000, storms=3, asking=True),
    ),
    Case(
        name="joins-no-presence",
        title="What presence costs those who do not ask for it",
        what="Two servers, one as it is by default, one with `--no-presence`, which keeps no members: by turns, 1,000 "
        "clients join and are sent messages of 64 bytes by one HTTP publisher; nobody asks for presence. "
        "Three pairs of servers, two turns each.",
        load=replace(_THOUSAND, seconds=2.0),
        way=Way.AGAINST,
        against=("--no-presence",),
    ),
    Case(
        name="million",
        title="1,000,000 messages, four subscribers",
        what="What the server's memory has grown by after 1,000,000 messages of 256 bytes since it was quiet after "
        "10,000, with a history of 100; over one WebSocket (`client_publish`), to four subscribers.",
        load=replace(_MILLION, by_websocket=True),
        options=("--client-publish",),
        kept=True,
    ),
    Case(
        name="million-to-nobody",
        title="1,000,000 messages, nobody there",
        what="The same to a group without subscribers, over 16 HTTP connections; once, because it takes minutes.",
        load=replace(_MILLION, subscribers=0, publishers=16),
        kept=True,
        once=True,
    ),
)
