"""Checks settings that were made in code, which no reader of files has looked at.

It reads nothing, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from enum import Enum
from typing import Any, get_args, get_type_hints

import msgspec

from triocast.errors import SettingsError
from triocast.settings.check import Contradiction, blocking, contradictions, value_problems
from triocast.settings.given import dotted
from triocast.settings.model import GroupSettings, Settings

_HINTS = get_type_hints(Settings, include_extras=True)


def check_made(settings: Settings) -> None:
    """Refuse values of the wrong type or out of bounds, and values that cannot hold together.

    Raises `SettingsError` with everything that is wrong, a line each.
    """
    problems = [*_problems(settings, "")]
    for name, group in settings.namespaces.items():
        problems += _problems(group, f"namespaces.{name}.")
    if not problems:
        problems = _told(contradictions(settings))
    if problems:
        raise SettingsError("\n".join(problems))


def check_shared(settings: Settings) -> None:
    """Refuse what an engine of several processes can't keep; for one that was made in code. Raises `SettingsError`."""
    problems = _told(blocking(settings))
    if problems:
        raise SettingsError("\n".join(problems))


def _told(contradictions: Iterable[Contradiction]) -> list[str]:
    return [f"{dotted(each.keys[0])}: {each.text}" for each in contradictions]


def _problems(values: Settings | GroupSettings, place: str) -> Iterator[str]:
    for item in fields(values):
        if item.name != "namespaces":
            value = getattr(values, item.name)
            wrong = _mistyped(_HINTS[item.name], value)
            told = [wrong] if wrong is not None else value_problems(item.name, value)
            yield from (f"{place}{item.name}: {each}" for each in told)


def _mistyped(hint: Any, value: object) -> str | None:
    kind = get_args(hint)[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        names = ", ".join(str(item) for item in kind)
        return None if isinstance(value, kind) else f"expected one of {names}, got {value!r}"
    if isinstance(value, list):
        return f"expected a tuple, got {value!r}"
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return str(error).replace("Expected", "expected").replace("`", "")
    return None
