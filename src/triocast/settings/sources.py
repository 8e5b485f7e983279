"""Where settings come from: defaults, file, environment and command line, merged and validated once.

Reads the settings file and looks whether named files are there; apart from that, what comes out depends on
what is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import msgspec

from triocast.errors import SettingsError
from triocast.settings.check import contradictions, value_problems
from triocast.settings.given import (
    GROUP_FIELDS,
    Given,
    Key,
    Reading,
    dotted,
    find_file,
    read_environ,
    read_file,
    read_options,
)
from triocast.settings.model import GroupSettings, Settings

_HINTS = get_type_hints(Settings, include_extras=True)
SECRETS = frozenset(item.name for item in fields(Settings) if not item.repr)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and for the key of each where it came from.

    A source is `default`, `file PATH`, the name of a variable or that of an option. Of a namespace there is only what
    it sets itself; the rest it takes from the server's own.
    """

    settings: Settings
    sources: Mapping[Key, str]


def load(
    cli: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    config: str | Path | None = None,
) -> Loaded:
    """Merge all sources, the weakest first: defaults, the TOML file, the environment, the command line.

    The file is `config`, else the one that TRIOCAST_CONFIG names, else `triocast.toml` in the current
    directory if it is there. `cli` maps field names to values; strings in it, and the values in `environ`,
    are read as what the field wants (lists from `environ` separated by commas, TRIOCAST_NAMESPACES a JSON
    object). Namespaces are merged key by key. Raises `SettingsError` with everything that is wrong, a line
    each.
    """
    found = find_file(config, environ)
    readings = [read_file(*found)] if found is not None else []
    readings += [read_environ(environ), read_options(cli)]
    problems = [problem for reading in readings for problem in reading.problems]
    merged = _merge(readings, problems)
    settings = _assemble({key: value for key, (_, value) in merged.items()})
    sources = {key: given for key, (given, _) in merged.items()}
    problems += _contradictions(settings, sources, broken=_broken(readings, merged))
    if problems:
        raise SettingsError("\n".join(problems))
    return Loaded(settings, MappingProxyType(_all_sources(sources)))


def _merge(readings: list[Reading], problems: list[str]) -> dict[Key, tuple[Given, Any]]:
    """Convert what every source gave; the stronger wins, what a weaker one got wrong is reported all the same."""
    merged: dict[Key, tuple[Given, Any]] = {}
    for reading in readings:
        for key, given in reading.values.items():
            value, wrong = (None, []) if _names_namespace(key) else _convert(key[-1], given)
            problems += [f"{given.label}: {problem}" for problem in wrong]
            if not wrong:
                merged[key] = (given, value)
    return merged


def _names_namespace(key: Key) -> bool:
    return len(key) == 2


def _convert(name: str, given: Given) -> tuple[Any, list[str]]:
    hint = _HINTS[name]
    raw = given.value
    if given.text and isinstance(raw, str) and hint.__origin__ == tuple[str, ...]:
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    try:
        value = msgspec.convert(raw, type=hint, strict=not given.text)
    except msgspec.ValidationError as error:
        return None, [_explain(name, str(error), given.value)]
    return value, list(value_problems(name, value))


def _explain(name: str, error: str, value: object) -> str:
    """Say what was expected and what was got, in the words of a settings file instead of the validator's."""
    hint = getattr(_HINTS[name], "__origin__", None)
    if error.startswith("Invalid enum value") and isinstance(hint, type) and issubclass(hint, Enum):
        expected = "expected one of " + ", ".join(str(item.value) for item in hint)
    else:
        told = error.partition(", got ")[0].partition(" - at ")[0].replace("`", "")
        expected = told.replace("Expected", "expected").replace("array", "a list of strings")
    if name in SECRETS:
        return expected
    shown = repr(value)
    return f"{expected}, got {shown if len(shown) <= 80 else shown[:77] + '...'}"


def _assemble(values: Mapping[Key, Any]) -> Settings:
    own = {key[0]: value for key, value in values.items() if len(key) == 1}
    shared = {name: value for name, value in own.items() if name in GROUP_FIELDS}
    namespaces: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if len(key) > 1:
            overrides = namespaces.setdefault(key[1], {})
            if not _names_namespace(key):
                overrides[key[2]] = value
    groups = {name: GroupSettings(**(shared | overrides)) for name, overrides in namespaces.items()}
    return Settings(**own, namespaces=MappingProxyType(groups))


def _broken(readings: list[Reading], merged: Mapping[Key, object]) -> set[Key]:
    """Return the keys that were given and not one of whose values was any good."""
    return {key for reading in readings for key in reading.values if key not in merged}


def _contradictions(settings: Settings, sources: Mapping[Key, Given], *, broken: set[Key]) -> list[str]:
    lines = []
    for found in contradictions(settings):
        if broken.isdisjoint(found.keys):
            given = [sources[key].label for key in found.keys if key in sources]
            lines.append(f"{given[0] if given else dotted(found.keys[0])}: {found.text}")
    return lines


def _all_sources(sources: Mapping[Key, Given]) -> dict[Key, str]:
    told: dict[Key, str] = {(item.name,): "default" for item in fields(Settings) if item.name != "namespaces"}
    return told | {key: given.source for key, given in sources.items() if not _names_namespace(key)}
