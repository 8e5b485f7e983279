"""The engine on Redis or Valkey: positions and history on a server, so that many processes serve the same groups.

Each step that must be one is a script that runs on the server (`scripts/`).
"""

from triocast.engines.redis.engine import RedisEngine as RedisEngine
