"""What the scripts need of a connection: a way to send one command to the server of a partition.

It knows no script and no reply.
"""

from __future__ import annotations

from typing import Any, Protocol

from triocast.errors import EngineError


class RedisRefused(EngineError):
    """The server answered with an error; unlike `EngineUnavailable` it is there, and trying again does not help."""

    temporary = False


class Caller(Protocol):
    """Sends commands to the server that has a partition."""

    async def call(self, partition: int, *command: bytes | str | int) -> Any:
        """Send a command and return its reply as it came: bytes, numbers, lists of them, None.

        Raises `EngineUnavailable` if it was not sent, `UnknownOutcome` if the answer was lost, `RedisRefused` if that
        is an error. Cancelled, it may have been done.
        """
