"""The log of `triocast serve`, to standard error: for people on a terminal, one JSON object a line elsewhere.

Called by the server's own command only; used as a library, Triocast logs through `logging` and configures
nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.types import Processor

from triocast.settings.model import LogFormat, Settings

# What every record gets before it is rendered, whoever logged it: our code and the libraries use plain
# `logging`.
_COMMON: tuple[Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure(settings: Settings, stream: TextIO | None = None, *, worker: int | None = None) -> None:
    """Send the log of the whole process to `stream` (standard error), replacing other handlers.

    Every line of a `worker` carries its number.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(settings.log_format, terminal=stream.isatty(), worker=worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.value.upper())
    logging.captureWarnings(capture=True)


def formatter(log_format: LogFormat, *, terminal: bool, worker: int | None = None) -> logging.Formatter:
    """Return the formatter that `log_format` names; `auto` asks whether a `terminal` shows it."""
    console = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and terminal)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=list(_COMMON) if worker is None else [*_COMMON, _of_worker(worker)],
        processors=_console(colors=terminal) if console else _json(),
        # The record's own traceback would be appended once more, behind the rendered line.
        keep_exc_info=False,
        keep_stack_info=False,
    )


def _of_worker(number: int) -> Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("worker", number)
        return event

    return add


def _console(*, colors: bool) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors and not os.environ.get("NO_COLOR"),
        # Never the prettier ones: they show local variables, and a key may be among them.
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]


def _json() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _order,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]


def _order(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what every line has first, so that a person can read the JSON too."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return first | dict(event)
