"""What types and bounds cannot say: values that must have a form, and settings that contradict each other.

Looks at files only to see that they are there; reports problems as text and leaves naming their place to the
caller.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from triocast.core.message import OVERHEAD
from triocast.core.names import MAX_CONNECTION_ID, MAX_NAME
from triocast.core.overflow import Policy
from triocast.errors import SettingsError
from triocast.settings.address import Address, parse_address
from triocast.settings.engine import MEMORY, check_engine, is_memory
from triocast.settings.model import GroupSettings, Settings
from triocast.settings.redis_address import parse_redis_address

# What a message of the largest size weighs against max_lag_bytes beside its payload: the fixed 64, its key, which is
# at most as long as a group's name, and the id of the connection that it excludes.
MESSAGE_OVERHEAD = OVERHEAD + MAX_NAME + MAX_CONNECTION_ID

# As browsers send it: lower case, no path. Any scheme, since packaged apps have their own
# (capacitor://localhost).
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.ASCII
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_KEY = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Settings that cannot hold together: the `keys` involved, the main one first, and what is wrong."""

    keys: tuple[tuple[str, ...], ...]
    text: str


def value_problems(name: str, value: object) -> Iterator[str]:
    """Say what is wrong with the well-typed `value` of the setting `name`, a line each."""
    check = _VALUES.get(name)
    if check is None or value is None:
        return
    parts = value if isinstance(value, tuple) else (value,)
    if name == "bind" and not parts:
        yield "expected at least one address to listen on"
    for part in parts:
        try:
            check(part)
        except ValueError as error:
            yield str(error)
    yield from (f"{part!r} stands there twice" for part in sorted({p for p in parts if parts.count(p) > 1}))


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Say which settings cannot hold together."""
    for given, missing in (("certfile", "keyfile"), ("keyfile", "certfile")):
        if getattr(settings, given) is not None and getattr(settings, missing) is None:
            yield Contradiction(((given,), (missing,)), f"needs {missing} too: TLS takes both or neither")
    yield from _processes(settings)
    yield from _lag(settings, settings, ())
    yield from _memory(settings, settings, ())
    for namespace, group in settings.namespaces.items():
        if group.history_ttl != settings.history_ttl:
            yield from _memory(settings, group, ("namespaces", namespace))
        if group.max_lag_bytes != settings.max_lag_bytes:
            yield from _lag(settings, group, ("namespaces", namespace))


def _processes(settings: Settings) -> Iterator[Contradiction]:
    if settings.workers > 1 and settings.engine == MEMORY:
        yield Contradiction(
            (("engine",), ("workers",)),
            f"memory joins no processes, and workers is {settings.workers}: each would have groups of its own; leave "
            "engine out (the workers share a Valkey of their own) or name a Redis (redis://HOST:PORT)",
        )
    if settings.data_dir is not None and (settings.workers == 1 or settings.engine is not None):
        yield Contradiction(
            (("data_dir",), ("workers",), ("engine",)),
            "is where the Valkey of several workers keeps its data, and there is none: that takes workers above 1 and "
            "no engine",
        )
    if settings.workers > 1 or not is_memory(settings.engine):
        yield from blocking(settings)
    if settings.shutdown_spread is not None and settings.shutdown_spread > settings.grace:
        yield Contradiction(
            (("shutdown_spread",), ("grace",)),
            f"is {settings.shutdown_spread:g} and has to be at most grace ({settings.grace:g}): who is not told by "
            "then is cut off",
        )


def blocking(settings: Settings) -> Iterator[Contradiction]:
    """Say where settings have the policy `block`, which takes one process."""
    yield from _blocking(settings, ())
    for namespace, group in settings.namespaces.items():
        if group.policy is not settings.policy:
            yield from _blocking(group, ("namespaces", namespace))


def _blocking(group: GroupSettings, place: tuple[str, ...]) -> Iterator[Contradiction]:
    if group.policy is Policy.BLOCK:
        yield Contradiction(
            ((*place, "policy"), ("engine",), ("workers",)),
            "block holds publishers back for the clients of one process, and others may publish elsewhere: it takes "
            "engine memory and one worker",
        )


def _lag(settings: Settings, group: GroupSettings, place: tuple[str, ...]) -> Iterator[Contradiction]:
    least = settings.max_message + MESSAGE_OVERHEAD
    if group.max_lag_bytes < least:
        yield Contradiction(
            ((*place, "max_lag_bytes"), ("max_message",)),
            f"max_lag_bytes is {group.max_lag_bytes} and has to be at least {least}: a message of "
            f"max_message ({settings.max_message} bytes, {MESSAGE_OVERHEAD} more with key and weight) "
            "could never be held",
        )


def _memory(settings: Settings, group: GroupSettings, place: tuple[str, ...]) -> Iterator[Contradiction]:
    if group.history_ttl > settings.position_ttl:
        yield Contradiction(
            ((*place, "history_ttl"), ("position_ttl",)),
            f"history_ttl is {group.history_ttl} and has to be at most position_ttl ({settings.position_ttl}): "
            "a group without members is forgotten with its position",
        )


def addresses(settings: Settings) -> tuple[Address, ...]:
    """Return where to listen, in the order given."""
    return tuple(parse_address(text) for text in settings.bind)


def check_exposure(settings: Settings) -> None:
    """Refuse to let the whole network publish by oversight.

    Raises `SettingsError`, saying what to do, if an address beyond loopback is listened on without `api_key`
    and without `insecure`.
    """
    if settings.api_key is not None or settings.insecure:
        return
    exposed = [str(address) for address in addresses(settings) if not address.is_loopback]
    if exposed:
        raise SettingsError(
            f"will not listen on {', '.join(exposed)} without a key: anyone who reaches it could publish.\n"
            "  Set a key (TRIOCAST_API_KEY=... or api_key in the settings file),\n"
            "  or listen on loopback only (--bind 127.0.0.1:8000),\n"
            "  or say that this is meant (--insecure)."
        )


def _origin(text: str) -> None:
    if text == "*":
        return
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected an origin as browsers send it (https://host[:port], lower case, no path) or *, got {text!r}"
        )
    if match["port"] is not None and match["port"] == _DEFAULT_PORTS.get(match["scheme"]):
        raise ValueError(f"expected no :{match['port']} in {text!r}: browsers leave out the default port")


def _proxy(text: str) -> None:
    if text == "unix":
        return
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"expected an address, a network (10.0.0.0/8) or 'unix': {error}") from None


def _readable_file(path: str) -> None:
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path!r}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"may not read {path!r}")


def _key(text: str) -> None:
    # Said without showing it: it is a secret even when it is wrong.
    if not _KEY.fullmatch(text):
        raise ValueError("expected printable ASCII without spaces: a key travels in a header")


def _engine(text: str) -> None:
    check_engine(text)
    tls = None if text == MEMORY else parse_redis_address(text).tls
    for path in (tls.cafile, tls.certfile, tls.keyfile) if tls is not None else ():
        if path is not None:
            _readable_file(path)


def _address(text: str) -> None:
    parse_address(text)


_VALUES: Mapping[str, Callable[[str], None]] = MappingProxyType(
    {
        "bind": _address,
        "allowed_origins": _origin,
        "trusted_proxies": _proxy,
        "certfile": _readable_file,
        "keyfile": _readable_file,
        "api_key": _key,
        "engine": _engine,
    }
)
