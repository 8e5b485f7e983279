"""Every exception, and the table of close codes.

Nothing here does anything: an error says whose fault it was and whether to try again, a close whether to come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triocast.core.message import Position


class TriocastError(Exception):
    """The parent of all that Triocast raises on purpose.

    `code` names the kind of error to machines, `status` is what an HTTP caller gets for it, and `temporary` says
    whether the same call may succeed later.
    """

    code: str = "error"
    status: int = 500
    temporary: bool = False


class InvalidGroupName(TriocastError, ValueError):
    """A group name breaks the rule; the caller's fault, the same name never works."""

    code = "invalid_group_name"
    status = 400


class InvalidMessage(TriocastError, ValueError):
    """The payload is not what its kind promises (json that does not parse, text that is not UTF-8)."""

    code = "invalid_message"
    status = 400


class InvalidPosition(TriocastError, ValueError):
    """The text is no position in a group's log."""

    code = "invalid_position"
    status = 400


class InvalidKey(TriocastError, ValueError):
    """The text can't say what a message supersedes; nothing was published."""

    code = "invalid_key"
    status = 400


class InvalidIdempotencyKey(TriocastError, ValueError):
    """The text can't be an idempotency key; nothing was published."""

    code = "invalid_idempotency_key"
    status = 400


class InvalidIdentity(TriocastError, ValueError):
    """The text can't name a user, or the info is no JSON object or too long; the caller's fault."""

    code = "invalid_identity"
    status = 400


class InvalidConnectionId(TriocastError, ValueError):
    """The text can't be the id of a connection; nothing was published."""

    code = "invalid_connection_id"
    status = 400


class UnexpectedPosition(TriocastError):
    """The group is not where a publish expected it to be: somebody else was faster, and nothing was published.

    Unlike a temporary error the same call never succeeds: look at what is new, and decide again, expecting `position`,
    where the group is now.
    """

    code = "unexpected_position"
    status = 409

    def __init__(self, group: str, expected: Position, position: Position) -> None:
        stands = f"is at {position.text}" if position.epoch else "has nothing published to it (0)"
        super().__init__(f"{group} {stands}, not at {expected.text}: nothing was published; look again and decide anew")
        self.position = position


class InvalidClose(TriocastError, ValueError):
    """The code can't be said to a client that is closed, or the reason is too long for a close frame; the caller's
    fault, nobody was closed."""

    code = "invalid_close"
    status = 400


class IdempotencyConflict(TriocastError, ValueError):
    """The group was given another message with this idempotency key; the caller's fault, nothing was published."""

    code = "idempotency_conflict"
    status = 422


class UnsupportedKind(TriocastError, ValueError):
    """The content type names no kind of message: neither text, json nor binary."""

    code = "unsupported_media_type"
    status = 415


class MessageTooLarge(TriocastError, ValueError):
    """The payload is over `max_message`; unlike `InvalidMessage` a smaller one of the same kind works."""

    code = "message_too_large"
    status = 413


class TooManyGroups(TriocastError):
    """A connection asked for more than `max_groups_per_connection` groups."""

    code = "too_many_groups"
    status = 400


class PresenceOff(TriocastError):
    """Who is in the group named can't be asked: its settings have `presence` off."""

    code = "presence_off"
    status = 404

    def __init__(self, group: str) -> None:
        super().__init__(f"who is in {group!r} is not told: presence is off for it")


class TooManyConnections(TriocastError):
    """`max_connections` clients are connected; try again later, or raise the limit."""

    code = "too_many_connections"
    status = 503
    temporary = True


class TooManyKeys(TriocastError):
    """As many idempotency keys are remembered as `idempotency_keys` allows; nothing was published, try again later."""

    code = "too_many_keys"
    status = 503
    temporary = True


class Overloaded(TriocastError):
    """A group with policy `block` had a member too far behind for too long; nothing was published, try again."""

    code = "overloaded"
    status = 503
    temporary = True


class ForeignOrigin(TriocastError):
    """A page of another site asked to connect; its origin would have to be in `allowed_origins`."""

    code = "foreign_origin"
    status = 403


class ShuttingDown(TriocastError):
    """The server is leaving; another one, or this one restarted, will take the call."""

    code = "shutting_down"
    status = 503
    temporary = True


class NotRunning(TriocastError, RuntimeError):
    """The hub was used before its application was started (or after it ended)."""

    code = "not_running"


class ConnectionEnded(TriocastError):
    """The connection is over; unlike `NotRunning` this is ordinary and no one's fault."""

    code = "connection_ended"


class EngineError(TriocastError):
    """The engine has failed; see its cause."""

    code = "engine_error"
    status = 503
    temporary = True


class EngineUnavailable(EngineError):
    """The engine can't be reached; nothing was done."""

    code = "unavailable"


class UnknownOutcome(EngineError):
    """The engine was asked and its answer was lost: it may have published or not. With an idempotency key the same call
    can be made again without harm."""

    code = "unknown_outcome"


class SettingsError(TriocastError, ValueError):
    """A setting is unknown, malformed, or contradicts another; the message names where it stands."""

    code = "settings"


class ComeBack(Enum):
    """What a closed client should do next."""

    NO = "no"
    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Close:
    """Why a connection ends: a WebSocket close code (RFC 6455, 7.4), a reason of at most 123 bytes of UTF-8, and
    whether the client may come back."""

    code: int
    reason: str
    come_back: ComeBack = ComeBack.NO

    def because(self, reason: str) -> Close:
        """Return this close with another reason, cut to what fits in a close frame."""
        cut = reason.encode()[:MAX_REASON].decode(errors="ignore")
        return Close(self.code, cut, self.come_back)


# A control frame carries 125 bytes, two of them the code (RFC 6455, 5.5).
MAX_REASON = 123

NORMAL = Close(1000, "")
POLICY = Close(1008, "not allowed here")
TOO_BIG = Close(1009, "message too big")
CRASHED = Close(1011, "the server failed; the operator has been told", ComeBack.LATER)
RESTART = Close(1012, "the server is restarting; come back", ComeBack.NOW)
TOO_SLOW = Close(1013, "too slow: you fell behind by more than this group allows; come back", ComeBack.NOW)
FORCED = Close(3503, "disconnected by the server")
MISSED = Close(4010, "you asked to miss nothing, and would have; come back", ComeBack.NOW)

CLOSES = (NORMAL, POLICY, TOO_BIG, CRASHED, RESTART, TOO_SLOW, FORCED, MISSED)
"""Every close the server begins by itself, in one table."""
