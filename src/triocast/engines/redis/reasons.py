"""Why a server refused something, and why a connection ended: coredis's errors in the words of the server.

It decides nothing: what a reason means is for whoever asked.
"""

from __future__ import annotations

import coredis.exceptions as errors
from anyio import EndOfStream

from triocast.engines.redis.caller import RedisRefused

CLOSED = "the server closed the connection"

# coredis takes the code off the errors that it knows.
_CODES = {
    errors.AskError: "ASK",
    errors.AuthenticationFailureError: "WRONGPASS",
    errors.AuthenticationRequiredError: "NOAUTH",
    errors.AuthorizationError: "NOPERM",
    errors.BusyLoadingError: "LOADING",
    errors.ClusterCrossSlotError: "CROSSSLOT",
    errors.ClusterDownError: "CLUSTERDOWN",
    errors.MovedError: "MOVED",
    errors.NoScriptError: "NOSCRIPT",
    errors.ReadOnlyError: "READONLY",
    errors.TryAgainError: "TRYAGAIN",
    errors.WrongTypeError: "WRONGTYPE",
}


def error_text(error: BaseException) -> str:
    """Return an error reply as the server spelled it, its code in front."""
    code = _CODES.get(type(error))
    text = str(error)
    return text if code is None else f"{code} {text}"


def reason_of(refused: RedisRefused) -> str:
    """Return the code in front of what a server says."""
    return str(refused).partition(" ")[0]


def describe(error: BaseException) -> str:
    """Return why a connection could not be made, or ended, in one line."""
    if isinstance(error, errors.AuthenticationError):
        return "the server wants another user or password: " + error_text(error)
    while error.__cause__ is not None:  # what the system says is deepest
        error = error.__cause__
    if isinstance(error, EndOfStream):
        return CLOSED
    return error_text(error) or type(error).__name__
