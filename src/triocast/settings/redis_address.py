"""Where a Redis or Valkey is, from a URL: one server, the servers that Sentinel watches, or a Cluster.

Pure: it resolves no name and opens nothing; no error repeats a part of the URL, which may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qs, unquote, urlsplit

FORMS = (
    "redis://[USER:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, unix:///PATH?db=DB, redis+sentinel://HOST,HOST/NAME or "
    "redis+cluster://HOST,HOST"
)
HOST = (
    "expected HOST, HOST:PORT or [IPV6]:PORT after the // of the URL; in a password @ / ? # are written %40 %2F %3F %23"
)
PORT = 6379
SENTINEL_PORT = 26379
PREFIX = "triocast"

_SCHEME = re.compile(r"(?:(?:redis|valkey)(?P<tls>s)?(?:\+(?P<kind>sentinel|cluster))?|(?P<unix>unix))", re.ASCII)
_PLACE = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"[^\s{}\x00-\x1f\x7f]{1,64}")
_PARAMETERS = frozenset({"prefix", "db", "cafile", "certfile", "keyfile", "sentinel_user", "sentinel_password"})


class Kind(Enum):
    """How the server for a key is found."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Place:
    """One server: `host` and `port`, or the `path` of its Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user (None: the default one) and a password; neither is ever shown."""

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TLS:
    """Files that TLS needs beside the system's certificates: whom to trust, and who we are."""

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What a URL says. `places` are servers, or Sentinels that know where the primary called `name` is."""

    kind: Kind
    places: tuple[Place, ...]
    name: str = ""
    db: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: TLS | None = None
    prefix: str = PREFIX

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        places = ",".join(str(place) for place in self.places)
        if self.kind is Kind.ONE:
            return places if self.places[0].path is not None else f"{scheme}://{places}/{self.db}"
        return f"{scheme}+{self.kind.value}://{places}" + (f"/{self.name}" if self.name else "")


def parse_redis_address(url: str) -> RedisAddress:
    """Return what `url` says; raises `ValueError` that says what was expected and repeats nothing."""
    scheme, separator, _ = url.partition("://")
    match = _SCHEME.fullmatch(scheme.lower())
    if not separator or match is None:
        raise ValueError(f"expected {FORMS}")
    try:
        split = urlsplit(url)
    except ValueError:  # whose text has the servers in it
        raise ValueError(HOST) from None
    if split.fragment:
        raise ValueError("expected no # in the URL: in a password it is written %23")
    given = _parameters(split.query)
    login_text, _, places_text = split.netloc.rpartition("@")
    login = _login(login_text)
    prefix = given.get("prefix", PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("prefix: expected 1 to 64 characters without spaces and braces")
    if match["unix"]:
        place = _unix_place(places_text, unquote(split.path))
        return RedisAddress(Kind.ONE, (place,), db=_db(given.get("db", "0")), login=login, prefix=prefix)
    tls = TLS(given.get("cafile"), given.get("certfile"), given.get("keyfile")) if match["tls"] else None
    kind = Kind(match["kind"]) if match["kind"] else Kind.ONE
    places = _places(places_text, SENTINEL_PORT if kind is Kind.SENTINEL else PORT)
    name, db = _path(kind, unquote(split.path).strip("/"), given.get("db"), places)
    sentinels = Login(given.get("sentinel_user"), given.get("sentinel_password"))
    return RedisAddress(kind, places, name, db, login, sentinels, tls, prefix)


def _parameters(query: str) -> Mapping[str, str]:
    given = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    unknown = sorted(given.keys() - _PARAMETERS)
    if unknown:
        raise ValueError(f"expected no parameters but {', '.join(sorted(_PARAMETERS))}; in a password ? is %3F")
    return given


def _login(text: str) -> Login:
    user, separator, password = text.partition(":")
    return Login(unquote(user) or None, unquote(password) if separator else None)


def _path(kind: Kind, path: str, db: str | None, places: tuple[Place, ...]) -> tuple[str, int]:
    """What follows the servers: a database's number, or the name of the primary and then one."""
    if kind is Kind.CLUSTER:
        if path or db not in (None, "0"):
            raise ValueError("a Cluster has no databases: expected nothing behind its servers")
        return "", 0
    if kind is Kind.ONE:
        if len(places) > 1:
            raise ValueError("expected one server; several are a Cluster (redis+cluster://) or Sentinels")
        return "", _db(path or db or "0")
    name, _, number = path.partition("/")
    if not name:
        raise ValueError("expected the name of the primary behind the Sentinels: redis+sentinel://HOST,HOST/NAME")
    return name, _db(number or db or "0")


def _places(text: str, port: int) -> tuple[Place, ...]:
    return tuple(_place(each, port) for each in text.split(","))


def _place(text: str, port: int) -> Place:
    match = _PLACE.fullmatch(text)
    number = int(match["port"] or port) if match else 0
    if match is None or not 0 < number <= 65_535:
        raise ValueError(HOST)
    return Place(match["six"] or match["host"], number)


def _unix_place(host: str, path: str) -> Place:
    if host or not path.strip("/"):
        raise ValueError("expected an absolute path after unix://, with three slashes: unix:///run/valkey.sock")
    return Place(path=path)


def _db(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII):
        raise ValueError("expected the number of a database behind the server; in a password / is written %2F")
    return int(text)
