"""The scripts that run on the server, each one step there: loaded once, called by their digest.

It knows their names and not what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from triocast.engines.redis.caller import Caller, RedisRefused


class Script:
    """One script of `scripts/`, by its name there."""

    __slots__ = ("_digest", "_source", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._source = files(__package__).joinpath("scripts", f"{name}.lua").read_bytes()
        self._digest = sha1(self._source, usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"

    async def run(self, caller: Caller, partition: int, keys: Sequence[bytes], *arguments: bytes | str | int) -> Any:
        """Run it on the server of the partition. Raises what `Caller.call` raises."""
        try:
            return await caller.call(partition, b"EVALSHA", self._digest, len(keys), *keys, *arguments)
        except RedisRefused as error:
            # A server that was restarted, emptied or failed over to has forgotten its scripts; nothing was done.
            if "No matching script" not in str(error):
                raise
        return await caller.call(partition, b"EVAL", self._source, len(keys), *keys, *arguments)


PUBLISH = Script("publish")
ATTACH = Script("attach")
CHECK = Script("check")
READ = Script("read")
VALUES = Script("values")
REPORT = Script("report")
CENSUS = Script("census")
ORDER = Script("order")
HEAR = Script("hear")
ANSWER = Script("answer")
CHANGE = Script("change")
LOOK = Script("look")
MEMBERS = Script("members")
