"""Says in a person's words why a server could not be reached.

Only words errors of sockets and TLS; raises and catches nothing.
"""

from __future__ import annotations

import os
import ssl

from triocast.client.errors import CannotConnect
from triocast.client.target import Target


def cannot_reach(target: Target, error: BaseException) -> CannotConnect:
    """Return the error that says why `target` could not be reached."""
    nobody = isinstance(_cause(error), (ConnectionRefusedError, FileNotFoundError))
    return CannotConnect(f"cannot reach {target}: {why(error)}", nobody_there=nobody)


def why(error: BaseException) -> str:
    """Return the reason in `error`, without its numbers and classes."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        wrong = cause.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
        return "it does not speak TLS" if wrong else f"TLS failed ({cause.reason or cause})"
    text = _system_words(cause) or str(cause) or type(cause).__name__
    return text[0].lower() + text[1:]


def _system_words(error: BaseException) -> str | None:
    # By number where there is one: trio adds the address, which the sentence has already. A resolver's are negative.
    if not isinstance(error, OSError):
        return None
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror


def _cause(error: BaseException) -> BaseException:
    """Return what lies behind trio's "all attempts to connect failed" and "the TLS handshake broke"."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return error if not isinstance(cause, OSError) else _cause(cause)
