"""Command line options made from the fields of the settings, so that each is spelled once.

Makes options and puts them under headings; what their values mean is the settings' own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from types import MappingProxyType
from typing import Any, get_type_hints

import click
from msgspec import Meta

from triocast.settings import Settings
from triocast.settings.given import option_name

SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Listening": ("bind", "certfile", "keyfile", "trusted_proxies"),
        "Processes": ("workers", "engine", "data_dir"),
        "Security": ("api_key", "insecure", "allowed_origins", "client_publish"),
        "Limits": (
            "max_message",
            "compression",
            "max_connections",
            "max_groups_per_connection",
            "max_handshakes",
            "idempotency_keys",
            "max_inbound",
            "max_inbound_bytes",
            "max_header",
        ),
        "Presence": ("presence", "presence_grace", "hook_queue", "hook_timeout"),
        "Slow clients": ("policy", "max_lag", "max_lag_bytes", "inbox", "block_timeout", "pinned_bytes"),
        "History": (
            "history_size",
            "history_ttl",
            "history_bytes",
            "recovery_limit",
            "join",
            "max_keys",
            "history_memory",
            "max_groups",
            "position_ttl",
        ),
        "Time limits": (
            "header_timeout",
            "body_timeout",
            "keep_alive",
            "ping_interval",
            "ping_timeout",
            "inbound_timeout",
            "write_timeout",
            "engine_timeout",
            "close_timeout",
            "grace",
            "shutdown_spread",
        ),
        "Log": ("log_level", "log_format"),
    }
)
# A table per namespace does not fit on a command line: file and environment only.
NOT_OPTIONS = frozenset({"namespaces"})

_METAVARS = MappingProxyType(
    {
        "bind": "ADDRESS",
        "certfile": "FILE",
        "keyfile": "FILE",
        "trusted_proxies": "PROXY",
        "allowed_origins": "ORIGIN",
        "api_key": "KEY",
        "engine": "ENGINE",
        "data_dir": "FOLDER",
        "shutdown_spread": "SECONDS",
    }
)
_HINTS = get_type_hints(Settings, include_extras=True)


class SettingOption(click.Option):
    """An option that stands for a field of the settings, under a heading of the help."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SettingsCommand(click.Command):
    """A command whose help shows the settings' options under their headings, and its own last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = parameter.section if isinstance(parameter, SettingOption) else "Options"
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` an option for every setting, and `--config`; values arrive as strings, None where not given."""
    options: list[click.Option] = list(_options())
    options.append(
        click.Option(
            ["--config"],
            metavar="FILE",
            help="Read settings from this TOML file.  [default: triocast.toml, if it is here]",
        )
    )
    # Like click's own decorators, which apply from the innermost outwards.
    existing = getattr(command, "__click_params__", [])
    command.__click_params__ = [*existing, *reversed(options)]  # type: ignore[attr-defined]
    return command


def _options() -> Iterator[SettingOption]:
    by_name = {item.name: item for item in fields(Settings) if item.name not in NOT_OPTIONS}
    for section, names in SECTIONS.items():
        for name in names:
            yield _option(by_name[name], section)


def _option(item: Field[Any], section: str) -> SettingOption:
    hint = _HINTS[item.name]
    kind = hint.__origin__
    text = f"{_description(hint)}  [default: {shown(_default(item))}]"
    spelled = option_name(item.name)
    if kind is bool:
        flags = f"{spelled}/--no-{spelled.removeprefix('--')}"
        return SettingOption([flags], section=section, help=text, default=None)
    many = kind == tuple[str, ...]
    text += "  Repeatable." if many else ""
    return SettingOption([spelled], section=section, help=text, metavar=_metavar(item.name, kind), multiple=many)


def _description(hint: Any) -> str:
    texts = [meta.description for meta in hint.__metadata__ if isinstance(meta, Meta) and meta.description]
    text = texts[-1]
    return f"{text[0].upper()}{text[1:]}."


def _default(item: Field[Any]) -> object:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _metavar(name: str, kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return _METAVARS.get(name) or ("SECONDS" if kind is float else "N")


def shown(value: object) -> str:
    """Return `value` as a person reads it."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)
