"""What connections of every kind begin with and end as: dialling, what a server says that refuses, and how one ended.

It speaks no protocol.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from triocast.client.errors import CannotConnect
from triocast.client.frames import Frame
from triocast.client.reasons import cannot_reach
from triocast.client.settings import ListenerSettings
from triocast.client.target import Target

Deliver = Callable[[Frame], Awaitable[object]]
Opened = Callable[["str | None"], Awaitable[object]]

ABNORMAL = 1006  # RFC 6455, 7.4.1: the connection ended without saying why
RECEIVE_BYTES = 64 * 1024  # a message of the largest size is then a few reads, not hundreds
_POSITION = b"triocast-position"  # says where the stream of each group begins


@dataclass(frozen=True, slots=True)
class Ended:
    """How an established connection ended: its close code (1006 if there was none) and the reason."""

    code: int
    reason: str


class Connection(Protocol):
    """A connection attempt and what becomes of it; `run` once, `aclose` from another task."""

    async def run(self, deliver: Deliver, opened: Opened) -> Ended:
        """Connect, call `opened`, hand what every message says to `deliver` in order, and return how it ended.

        `opened` is told the answer's header `Triocast-Position`, None if there is none.

        Raises `CannotConnect` or `HandshakeRefused` if there never was a connection, `UnexpectedFrame`, and what
        `deliver` raises on purpose (`TriocastError`), having said goodbye. When this returns or raises, the socket is
        closed and no task is left; cancelled, it closes the socket without saying goodbye.
        """

    async def aclose(self) -> None:
        """Say goodbye, waiting at most `close_timeout` for the server to say it too; `run` then returns."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to listen at a path of a server, and the words for what goes wrong with it."""

    target: Target
    path: str
    settings: ListenerSettings

    def deadline(self) -> float:
        """Return when one that begins now has to be connected, on trio's clock."""
        return trio.current_time() + self.settings.connect_timeout

    async def reach(self, deadline: float) -> trio.abc.Stream:
        """Dial; raises `CannotConnect`, also where that takes until `deadline`."""
        try:
            with trio.fail_at(deadline):
                return await self.settings.dial(self.target, self.settings.ssl_context)
        except trio.TooSlowError as error:
            raise self.too_slow() from error
        except (OSError, trio.BrokenResourceError) as error:
            raise cannot_reach(self.target, error) from error

    def too_slow(self) -> CannotConnect:
        """Return the error that says that nobody answered in time."""
        return CannotConnect(f"cannot reach {self.target}: no answer in {self.settings.connect_timeout:g} s")

    def not_for_us(self, what: str) -> CannotConnect:
        """Return the error that says what somebody does who answers, and is no server for us."""
        return CannotConnect(f"cannot listen at {self.target}: what answers there {what}")


def error_message(body: bytes) -> str | None:
    """Return the message in a server's JSON error, or None if `body` is something else."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return message if isinstance(message, str) else None


def position_header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return what the answer to a handshake says about positions."""
    return next((value.decode("ascii", "replace") for name, value in headers if name.lower() == _POSITION), None)
