"""The commands that use the server's settings: `serve` runs it, `config` shows what is in force.

The serving itself is elsewhere; nothing here listens or publishes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

import click

from triocast.cli.options import SettingsCommand, settings_options, shown
from triocast.errors import SettingsError
from triocast.settings import Loaded, Settings, check_exposure, load
from triocast.settings.engine import without_password
from triocast.settings.given import Key, dotted
from triocast.settings.sources import SECRETS

SET = "(set)"


@click.command(cls=SettingsCommand)
@settings_options
def serve(config: str | None, **options: object) -> int:
    """Run the server until SIGINT or SIGTERM.

    Clients connect to ws://HOST/ws/GROUP, messages go to POST /publish/GROUP. Without any option it listens
    on 127.0.0.1:8000, where only this machine can reach it.

    \b
      triocast serve
      triocast serve --bind 127.0.0.1:9000 --bind unix:/run/triocast.sock
      TRIOCAST_API_KEY=secret triocast serve --bind 0.0.0.0:8000
      triocast serve --workers 4

    One worker uses one core. Several share a Valkey that is started with them (pip install 'triocast[valkey]'), or the
    Redis or Valkey that --engine names; a password is better put into TRIOCAST_ENGINE, since others can see a command
    line. SIGHUP replaces the workers one after the other, with the settings as they are then, and nobody is refused.

    Every option is also a key of triocast.toml (max_message = 65536) and a variable
    (TRIOCAST_MAX_MESSAGE=65536). The command line is stronger than variables, these than the file. Groups get
    settings of their own by namespace, in the file as [namespaces.NAME] or in TRIOCAST_NAMESPACES as a JSON
    object. See them all with: triocast config
    """

    def loaded() -> Settings:
        settings = load(options, os.environ, config).settings
        check_exposure(settings)
        return settings

    settings = loaded()
    # Imported late: the other commands start without the server's weight.
    from triocast import logs  # noqa: PLC0415
    from triocast.serve import run, supervise  # noqa: PLC0415

    logs.configure(settings)
    return run(settings) if settings.workers == 1 else supervise(settings, loaded)


@click.command(cls=SettingsCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, values with their sources.")
@settings_options
def config(config: str | None, *, as_json: bool, **options: object) -> None:
    """Show the settings in force, and where each came from.

    Takes the options of `serve` and loads what `serve` would; a key is shown as (set). On a terminal the
    columns are aligned, elsewhere separated by tabs.

    \b
      triocast config
      triocast config --config staging.toml --json
      triocast config | grep -v default

    Exits with 2, naming everything that is wrong, if `serve` would not accept the settings.
    """
    loaded = load(options, os.environ, config)
    if as_json:
        click.echo(json.dumps(_as_json(loaded), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(list(_rows(loaded)), aligned=sys.stdout.isatty())))
    try:
        check_exposure(loaded.settings)
    except SettingsError as error:
        raise SettingsError(f"serve {error}") from error


def _rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """Yield the dotted key, the value and the source of every setting; of a namespace what it sets itself."""
    for key, source in loaded.sources.items():
        value = _value(loaded.settings, key)
        yield dotted(key), value if isinstance(value, str) else shown(value), source


def _value(settings: Settings, key: Key) -> object:
    holder = settings if len(key) == 1 else settings.namespaces[key[1]]
    value: object = getattr(holder, key[-1])
    if key == ("engine",) and isinstance(value, str):
        return without_password(value)
    return SET if key[-1] in SECRETS and value is not None else value


def _as_json(loaded: Loaded) -> dict[str, Any]:
    """Return nested objects like the settings file's tables, each value with its source."""
    tree: dict[str, Any] = {}
    for key, source in loaded.sources.items():
        table = tree
        for part in key[:-1]:
            table = table.setdefault(part, {})
        value = _value(loaded.settings, key)
        table[key[-1]] = {"value": value.value if isinstance(value, Enum) else value, "source": source}
    return tree


def _lines(rows: list[tuple[str, str, str]], *, aligned: bool) -> list[str]:
    if not aligned:
        return ["\t".join(row) for row in rows]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return [f"{key:<{key_width}}  {value:<{value_width}}  {source}" for key, value, source in rows]
