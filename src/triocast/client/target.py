"""Where a server is: a URL, parsed, and the paths below it.

Pure: nothing is resolved or connected here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from triocast.client.errors import InvalidURL

_FORMS = "http://HOST:PORT, https://HOST:PORT, ws://, wss:// or unix:PATH"
_TLS = {"http": False, "ws": False, "https": True, "wss": True}
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_UNSAFE = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `host` and `port`, or the Unix socket `path`; `prefix` stands before every path."""

    host: str
    port: int
    tls: bool = False
    path: str | None = None
    prefix: str = ""

    @property
    def host_header(self) -> str:
        """What the Host header says; a default port is left out, as browsers do."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.path is not None or self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def publish_path(self, group: str, options: Mapping[str, str] = NO_OPTIONS) -> str:
        """Return the path and query that publish to `group`."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"{self.prefix}/publish/{quote(group, safe='')}{'?' if query else ''}{query}"

    def listen_path(self, endpoint: str, groups: Sequence[str], form: str, options: Sequence[str] = ()) -> str:
        """Return the path and query that listen to `groups` in the format `form`; the `endpoint` is ws or sse.

        `options` are more parameters, each as NAME=VALUE, in which nothing is left to be quoted.
        """
        asked = [f"group={quote(group, safe='')}" for group in groups]
        return f"{self.prefix}/{endpoint}?{'&'.join([*asked, f'format={form}', *options])}"

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.prefix}"


def parse_url(url: str) -> Target:
    """Return the server that `url` names; raises `InvalidURL` saying what was expected."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path or "\0" in path:
            raise InvalidURL("expected a path after unix:")
        return Target("localhost", 0, path=path)
    if _UNSAFE.search(url):
        raise InvalidURL(f"{url!a} is no address of a server: write other characters percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidURL(f"{url!r} is no address of a server: {error}") from None
    if parts.scheme not in _TLS or not parts.hostname:
        raise InvalidURL(f"{url!r} is no address of a server: expected {_FORMS}")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidURL("the address of a server has no user, no query and no fragment")
    tls = _TLS[parts.scheme]
    return Target(parts.hostname, port or (443 if tls else 80), tls=tls, prefix=parts.path.rstrip("/"))
