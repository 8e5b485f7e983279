"""Writes docs/settings.md from the settings' fields: python -m tests.docs_settings > docs/settings.md"""

# ruff: noqa: E501 - lines of a page, not of code

from __future__ import annotations

import dataclasses
import enum
from typing import get_type_hints

import msgspec

from triocast.settings import GroupSettings, Settings

HEAD = """\
# Settings

Made from the code by `python -m tests.docs_settings`; a test holds it against the fields.

A setting `max_message` is a key of `triocast.toml` (`max_message = 65536`), a variable (`TRIOCAST_MAX_MESSAGE=65536`) and
an option of `triocast serve` (`--max-message 65536`); the later in this list wins. The file is `--config`, else the one
that `TRIOCAST_CONFIG` names, else `triocast.toml` in the working directory. Sizes are bytes, times are seconds. An unknown
or wrong key ends the start with exit code 2 and every problem named with its place. `triocast config` shows what is in
force and where it came from.

## Of groups

At the top level they hold for every group; in a table `[namespaces.NAME]` (or in `TRIOCAST_NAMESPACES`, as a JSON object)
for the groups whose names begin with `NAME:`. What a namespace leaves out it takes from the top level.
"""


def default_of(field: dataclasses.Field[object]) -> str:
    value = field.default
    if value is dataclasses.MISSING or value is None or value == ():
        return "none"
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:_}`" if isinstance(value, int) else f"`{value}`"


def description_of(cls: type, name: str) -> str:
    hint = get_type_hints(cls, include_extras=True)[name]
    return next(meta.description for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta) and meta.description)


def table(cls: type, skip: set[str]) -> str:
    rows = [
        f"| `{field.name}` | {default_of(field)} | {description_of(cls, field.name)} |"
        for field in dataclasses.fields(cls)
        if field.name not in skip
    ]
    return "\n".join(["| setting | default | what it is, and why |", "| --- | --- | --- |", *rows]) + "\n"


def page() -> str:
    of_groups = {field.name for field in dataclasses.fields(GroupSettings)}
    return f"{HEAD}\n{table(GroupSettings, set())}\n## Of the server\n\n{table(Settings, of_groups)}"


if __name__ == "__main__":
    print(page(), end="")
