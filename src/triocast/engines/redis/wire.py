"""The way to ask one server something: a command connection, on which the requests of all callers follow each other.

It asks once and never again: whoever gets an error decides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf

import trio
from coredis.exceptions import ConnectionError as NotConnected

from triocast.engines.redis.advice import advise
from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.connection import Answer, Arg, Connection, ConnectionLost, Reply
from triocast.engines.redis.line import Line
from triocast.engines.redis.reasons import error_text, reason_of
from triocast.errors import EngineUnavailable, UnknownOutcome
from triocast.settings.redis_address import Place

MAX_WAITING = 10_000  # requests without a reply: a server that is this far behind gets no more of them
MAX_UNSENT = 64 * 1024 * 1024  # bytes that wait for it to take them: with 100 Mbit/s what came then would be late
SAID_AGAIN = 60.0  # seconds until the log says once more that a server refuses what it is asked

# Refusals of a server that has done nothing and may do it later, and what to do about them.
_TEMPORARY = {
    "LOADING": "it is reading its data from disk; wait",
    "READONLY": "it is a replica; name the primary, or its Sentinels",
    "MASTERDOWN": "it is a replica that has lost its primary; wait for the failover",
    "OOM": "it is out of memory; raise its maxmemory, or lower history_size and position_ttl",
    "MISCONF": "it can't write to its disk, and takes nothing until it can; see its log",
    "NOREPLICAS": "it has fewer replicas than its min-replicas-to-write asks for",
    "BUSY": "a script of somebody's has been running for seconds; see SCRIPT KILL",
    "NOAUTH": "it wants a user and a password, which the engine's URL does not give",
    "WRONGPASS": "it refuses the user or the password that the engine's URL gives",
}
# Those after which another connection is better: the server has become another one, or does not know us any more.
_DROPPED = frozenset({"READONLY", "MASTERDOWN", "NOAUTH", "WRONGPASS"})

logger = logging.getLogger("triocast.redis")


class Wire(Line):
    """Asks one server. `run` it; `call` works while it is up."""

    _advised: Place | None = None  # the server that was looked at last
    _said = -inf  # when the log last said that it refuses

    async def call(self, *args: Arg, asking: bool = False) -> Reply:
        """Send a command and return its reply. With `asking`, of a slot that is on its way to this server.

        Raises `EngineUnavailable` when nothing was done, `UnknownOutcome` when the answer was lost or did not come in
        time, and `RedisRefused` when it is an error. Cancelled, the command may be done all the same.
        """
        answer = self._ask(args, asking=asking)
        try:
            reply = await answer.wait()
        except ConnectionLost as lost:
            raise UnknownOutcome(f"the answer of {self.name} was lost: {self._ended or lost}") from lost
        if isinstance(reply, Exception):
            self._refuse(reply)
        return reply

    async def live(self, connection: Connection) -> None:  # noqa: ARG002 - it asks as everybody does
        """Look once at how a server keeps what it is given; after a failover it is another one."""
        if self._advised != self.place:
            self._advised = self.place
            await advise(self)

    def told(self, replies: Sequence[Reply]) -> None:
        """Nothing is subscribed to: what comes unasked for is a late word to somebody else."""

    def greet(self, connection: Connection) -> None:
        """Ask for a PONG."""
        connection.ask(b"PING")

    def asked(self, connection: Connection) -> float | None:
        """Return when the oldest request was made that has no reply."""
        return connection.asked

    def _ask(self, args: Sequence[Arg], *, asking: bool) -> Answer:
        connection = self.connection
        if connection is None or not connection.usable:
            raise self.unavailable()
        if connection.waiting >= MAX_WAITING:
            raise EngineUnavailable(f"{self.name} is {connection.waiting} requests behind")
        if connection.unsent >= MAX_UNSENT:
            raise EngineUnavailable(f"{self.name} is {connection.unsent} bytes behind")
        try:
            if asking:
                connection.ask(b"ASKING")
            return connection.ask(*args)
        except NotConnected as error:
            raise self.unavailable() from error

    def _refuse(self, error: Exception) -> None:
        refused = RedisRefused(error_text(error))
        reason = reason_of(refused)
        advice = _TEMPORARY.get(reason)
        if advice is None:
            raise refused from error
        if reason in _DROPPED:
            self.drop(advice)
        elif trio.current_time() - self._said >= SAID_AGAIN:
            self._said = trio.current_time()
            logger.warning("%s refuses what it is asked (%s): %s", self.name, reason, advice)
        raise EngineUnavailable(f"{self.name} refused ({reason}): {advice}") from error
