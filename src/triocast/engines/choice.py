"""Makes the engine that the settings name.

It never runs one; and what an engine needs installed is only asked for when that engine is wanted.
"""

from __future__ import annotations

from importlib.util import find_spec

from triocast.engines import Engine
from triocast.engines.memory import MemoryEngine
from triocast.errors import SettingsError
from triocast.settings import Settings
from triocast.settings.engine import is_memory


def check_installed(settings: Settings) -> None:
    """Raise `SettingsError`, saying what to do, if the engine needs what is not installed."""
    if not is_memory(settings.engine) and find_spec("coredis") is None:
        raise SettingsError(
            "engine: a Redis or Valkey needs coredis, which is not installed: pip install 'triocast[redis]'"
        )


def make_engine(settings: Settings) -> Engine:
    """Return a new engine for one hub. Raises `SettingsError` if what it needs is not installed."""
    check_installed(settings)
    if is_memory(settings.engine):
        return MemoryEngine(settings)
    from triocast.engines.redis import RedisEngine  # noqa: PLC0415 - it needs what not everybody has installed

    return RedisEngine(settings)
