"""What can go wrong for a client; each says whose fault it was and whether trying again may help.

Kept apart from the server's own errors, which a client only ever meets as JSON or as a close code.
"""

from __future__ import annotations

from triocast.errors import TriocastError


class InvalidURL(TriocastError, ValueError):
    """The address of the server is not one; the caller's fault, the same address never works."""

    code = "invalid_url"


class CannotConnect(TriocastError):
    """No server answered there (refused, no such host, too slow, not speaking what was asked for); it may later.

    `nobody_there` says that nothing listens at all, unlike something that listens and does not answer well.
    """

    code = "cannot_connect"
    temporary = True

    def __init__(self, message: str, *, nobody_there: bool = False) -> None:
        super().__init__(message)
        self.nobody_there = nobody_there


class HandshakeRefused(TriocastError):
    """A server answered and said no: unlike `CannotConnect`, someone decided this.

    `http_status` is what it answered, `temporary` whether that may pass (429 and 5xx).
    """

    code = "handshake_refused"

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(f"refused with {http_status}: {message}")
        self.http_status = http_status
        self.temporary = http_status == 429 or http_status >= 500


class UnexpectedFrame(TriocastError):
    """The server sent what is not in the format asked for: it is no Triocast, or something else is in between."""

    code = "unexpected_frame"


class ListenerClosed(TriocastError):
    """The connection ended and the listener will not come back: the server said so, or `reconnect` is off.

    `close_code` and `reason` are those of the WebSocket's close, or of the close event; 1006 means that there was none.
    """

    code = "listener_closed"

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"closed with {close_code}" + (f": {reason}" if reason else ""))
        self.close_code = close_code
        self.reason = reason
