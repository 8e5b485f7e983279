"""What `engine` may say: `memory`, or the URL of a Redis or Valkey; checked, and shown without its password.

Pure: nothing here connects, and no message repeats a URL, which may hold a password.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlsplit

from triocast.settings.redis_address import FORMS, parse_redis_address

MEMORY = "memory"
HIDDEN = "***"


def check_engine(text: str) -> None:
    """Raise `ValueError`, which does not repeat `text`, if it names no engine."""
    if "://" in text:
        parse_redis_address(text)
    elif text != MEMORY:
        raise ValueError(f"expected {MEMORY}, or {FORMS}")


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
