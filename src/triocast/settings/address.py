"""Addresses to listen on, parsed: TCP as HOST:PORT or [IPV6]:PORT, and Unix sockets as unix:PATH.

Pure: nothing here resolves a name or opens a socket, so a host name that is not `localhost` never counts as loopback.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass

from triocast.core.access import is_loopback_address

FORMS = "HOST:PORT, [IPV6]:PORT or unix:PATH"
# What sockaddr_un.sun_path holds, less its closing NUL.
MAX_UNIX_PATH = 103 if sys.platform == "darwin" else 107

_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}", re.ASCII)
_TCP = re.compile(r"(\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen: `host` and `port` (0 lets the system choose), or the `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect: 127.0.0.0/8, ::1, `localhost` and Unix sockets."""
        if self.path is not None:
            return True
        return self.host.lower() == "localhost" or is_loopback_address(self.host)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that `text` spells; raises `ValueError` saying what was expected."""
    if text.startswith("unix:"):
        return Address(path=_unix_path(text.removeprefix("unix:")))
    match = _TCP.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {FORMS}, got {text!r}")
    port = int(match["port"])
    if port > 65_535:
        raise ValueError(f"expected a port from 0 to 65535, got {port}")
    return Address(_six(match["six"]) if match["six"] is not None else _host(match["host"]), port)


def _unix_path(path: str) -> str:
    size = len(path.encode(errors="surrogateescape"))
    if not path or "\0" in path:
        raise ValueError("expected a path after unix:")
    if size > MAX_UNIX_PATH:
        raise ValueError(f"a Unix socket's path has at most {MAX_UNIX_PATH} bytes here, this one {size}")
    return path


def _host(host: str) -> str:
    # An empty host means every interface in other servers; that must be written, not forgotten.
    if not host:
        raise ValueError("expected a host before the port: 127.0.0.1, or 0.0.0.0 for every interface")
    if not _HOST.fullmatch(host):
        raise ValueError(f"expected a host name or an IPv4 address, got {host!r}")
    return host


def _six(host: str) -> str:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"expected an IPv6 address between [ and ], got {host!r}") from None
    return host
