"""Makes the engine that the settings name.

It never runs one; and what an engine needs installed is only asked for when that engine is wanted.
"""

from __future__ import annotations

from importlib import import_module

from triocast.engines import Engine
from triocast.engines.memory import MemoryEngine
from triocast.errors import SettingsError
from triocast.settings import Settings
from triocast.settings.engine import is_memory


def make_engine(settings: Settings) -> Engine:
    """Return a new engine for one hub. Raises `SettingsError` if what it needs is not installed."""
    if is_memory(settings.engine):
        return MemoryEngine(settings)
    try:
        redis = import_module("triocast.engines.redis")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "coredis":
            raise
        raise SettingsError(
            "engine: a Redis or Valkey needs coredis, which is not installed: pip install 'triocast[redis]'"
        ) from error
    engine: Engine = redis.RedisEngine(settings)
    return engine
