"""What `engine` may say: `memory`, or the URL of a Redis or Valkey; checked for its shape, shown without its password.

Pure: nothing here connects, and no message repeats a URL, which may hold a password.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MEMORY = "memory"
HIDDEN = "***"
FORMS = (
    "memory, redis://HOST:PORT, rediss://…, unix:///PATH, redis+sentinel://HOST,HOST/NAME or redis+cluster://HOST,HOST"
)

_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys)(\+sentinel|\+cluster)?|unix", re.ASCII)
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?", re.ASCII)


def check_engine(text: str) -> None:
    """Raise `ValueError`, which does not repeat `text`, if it names no engine."""
    if text == MEMORY:
        return
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"expected {FORMS}") from None
    if "://" not in text or not _SCHEME.fullmatch(parts.scheme):
        raise ValueError(f"expected {FORMS}")
    if parts.fragment:
        raise ValueError("expected no # in the URL: in a password it is written %23")
    if parts.scheme == "unix":
        _check_path(parts.netloc, parts.path)
    else:
        _check_hosts(parts.netloc, several="+" in parts.scheme)
    if parts.scheme.endswith("+sentinel") and not parts.path.strip("/"):
        raise ValueError("expected the name of the primary after the Sentinels: redis+sentinel://HOST,HOST/NAME")


def is_memory(engine: str | None) -> bool:
    """Whether the engine is the one inside the process, which is the default of a single one."""
    return engine is None or engine == MEMORY


def without_password(text: str) -> str:
    """Return `text` with what may be a password hidden: before the @, and in the query."""
    if text == MEMORY:
        return text
    try:
        parts = urlsplit(text)
        words = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return HIDDEN
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    hidden = f"{user}{colon}{HIDDEN if colon else ''}{at}{place}"
    query = "&".join(f"{key}={HIDDEN if 'pass' in key.lower() else _quoted(value)}" for key, value in words)
    return f"{parts.scheme}://{hidden}{parts.path}{'?' if query else ''}{query}"


def _quoted(value: str) -> str:
    return quote(unquote(value), safe="/:,")


def _check_path(netloc: str, path: str) -> None:
    if netloc.rpartition("@")[2] or not path.strip("/"):
        raise ValueError("expected an absolute path after unix://, with three slashes: unix:///run/valkey.sock")


def _check_hosts(netloc: str, *, several: bool) -> None:
    places = netloc.rpartition("@")[2].split(",")
    if len(places) > 1 and not several:
        raise ValueError("expected one host; several are for redis+sentinel:// and redis+cluster://")
    for place in places:
        match = _PLACE.fullmatch(place)
        if match is None or int(match["port"] or 0) > 65_535:
            raise ValueError("expected HOST or HOST:PORT after the // of the engine's URL")
