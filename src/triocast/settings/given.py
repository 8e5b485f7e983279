"""Reads what was given: each source of settings becomes a mapping from keys to raw values and their places.

Knows which keys there are, and never what their values mean; the only thing it touches is the settings file.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from triocast.core.names import check_group_name
from triocast.errors import InvalidGroupName, SettingsError
from triocast.settings.model import GroupSettings, Settings

Key = tuple[str, ...]
"""Where a setting stands: `("max_lag",)`, or `("namespaces", "chat", "max_lag")`."""

PREFIX = "TRIOCAST_"
CONFIG_VARIABLE = "TRIOCAST_CONFIG"
DEFAULT_FILE = "triocast.toml"
# Variables that are not settings of the server: where its file is, and where `publish` and `listen` find it.
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "TRIOCAST_URL"})

GROUP_FIELDS = frozenset(item.name for item in fields(GroupSettings))
FIELDS = frozenset(item.name for item in fields(Settings))

# Kubernetes describes a Service that happens to be named triocast in variables like these, unasked, to every
# pod.
_KUBERNETES = re.compile(r"TRIOCAST_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")


@dataclass(frozen=True, slots=True)
class Given:
    """A raw value: `source` says where it came from, `label` names that place in an error.

    `text` values (from the environment and the command line) are strings to be read as what the field wants.
    """

    value: object
    source: str
    label: str
    text: bool = False


@dataclass(slots=True)
class Reading:
    """What one source gave, and what was wrong with its keys."""

    values: dict[Key, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def dotted(key: Key) -> str:
    """Return `key` as TOML writes it, quoting a namespace that is not a bare key."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in key)


def find_file(option: str | Path | None, environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """Return the settings file and what named it, or None: none was named, and none is here."""
    if option is not None:
        return Path(option), "--config"
    if (named := environ.get(CONFIG_VARIABLE)) is not None:
        return Path(named), CONFIG_VARIABLE
    default = Path(DEFAULT_FILE)
    return (default, DEFAULT_FILE) if default.exists() else None


def read_file(path: Path, named_by: str) -> Reading:
    """Read a TOML file; raises `SettingsError` if it cannot be read or is not TOML."""
    name = str(path)
    place = name if named_by in (name, DEFAULT_FILE) else f"{named_by}: {name}"
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"{place}: cannot read the settings file: {_lower(error.strerror)}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{place}: the settings file is not UTF-8 text ({error.reason})") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{place}: not valid TOML: {error}") from error
    reading = Reading()
    for key, value in tables.items():
        if key == "namespaces":
            _read_namespaces(reading, value, f"file {name}", f"{name}: ")
        else:
            _read_key(reading, (key,), Given(value, f"file {name}", f"{name}: {dotted((key,))}"), FIELDS)
    return reading


def read_environ(environ: Mapping[str, str]) -> Reading:
    """Read every variable whose name begins with TRIOCAST_, in the order of their names."""
    reading = Reading()
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and not _is_foreign(variable, environ[variable]):
            _read_variable(reading, variable, environ[variable])
    return reading


def read_options(options: Mapping[str, object] | None) -> Reading:
    """Read command line options by field name; None, and no value of a repeatable one, mean not given."""
    reading = Reading()
    for name, value in (options or {}).items():
        if value is None or value == ():
            continue
        option = option_name(name)
        text = isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value))
        _read_key(reading, (name,), Given(value, option, option, text=text), FIELDS - {"namespaces"})
    return reading


def option_name(name: str) -> str:
    """Return the command line's spelling of the field `name`."""
    return f"--{name.replace('_', '-')}"


def _is_foreign(variable: str, value: str) -> bool:
    if variable in OTHER_VARIABLES or _KUBERNETES.fullmatch(variable):
        return True
    return variable == "TRIOCAST_PORT" and value.startswith("tcp://")


def _read_variable(reading: Reading, variable: str, value: str) -> None:
    name = variable.removeprefix(PREFIX).lower()
    if variable != PREFIX + name.upper() or name not in FIELDS:
        known = [PREFIX + item.upper() for item in FIELDS] + sorted(OTHER_VARIABLES)
        reading.problems.append(f"{variable}: no such setting{_did_you_mean(variable.upper(), known)}")
    elif name == "namespaces":
        _read_json_namespaces(reading, variable, value)
    else:
        reading.values[(name,)] = Given(value, variable, variable, text=True)


def _read_json_namespaces(reading: Reading, variable: str, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError as error:
        reading.problems.append(f"{variable}: expected a JSON object of namespaces: {error}")
    else:
        _read_namespaces(reading, value, variable, f"{variable}: ")


def _read_namespaces(reading: Reading, tables: object, source: str, before: str) -> None:
    if not isinstance(tables, dict):
        reading.problems.append(f"{before}namespaces: expected a table of namespaces, got {tables!r}")
        return
    for namespace, table in tables.items():
        place: Key = ("namespaces", namespace)
        if problem := _namespace_problem(namespace, table):
            reading.problems.append(f"{before}{dotted(place)}: {problem}")
            continue
        # A namespace with nothing in it is still one: remember that it was named.
        reading.values[place] = Given(None, source, before + dotted(place))
        for name, value in table.items():
            key = (*place, name)
            _read_key(reading, key, Given(value, source, before + dotted(key)), GROUP_FIELDS)


def _namespace_problem(namespace: str, table: object) -> str | None:
    try:
        check_group_name(namespace)
    except InvalidGroupName as error:
        return str(error).replace("a group name", "a namespace", 1)
    if ":" in namespace:
        return "a namespace has no ':'; it is what stands before the first ':' of a group's name"
    return None if isinstance(table, dict) else f"expected a table of group settings, got {table!r}"


def _read_key(reading: Reading, key: Key, given: Given, known: Iterable[str]) -> None:
    name = key[-1]
    if name in known:
        reading.values[key] = given
    elif len(key) > 1 and name in FIELDS:
        reading.problems.append(f"{given.label}: a setting of the whole server, not of a namespace")
    else:
        reading.problems.append(f"{given.label}: no such setting{_did_you_mean(name.replace('-', '_').lower(), known)}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _lower(text: str | None) -> str:
    return (text or "unknown error")[0].lower() + (text or "unknown error")[1:]
