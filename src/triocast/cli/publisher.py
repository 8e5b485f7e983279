"""Publishing over HTTP: one kept connection, one request a message, one receipt each.

Plain blocking code on the standard library: a command that reads a line, sends it and waits has nothing to do
meanwhile.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from triocast.client.attempt import error_message
from triocast.client.reasons import cannot_reach, why
from triocast.client.target import NO_OPTIONS, Target
from triocast.errors import TriocastError, UnexpectedPosition, UnknownOutcome

# An answer is a receipt or an error, both a few hundred bytes; a page from something else is cut here.
MAX_ANSWER = 64 * 1024
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
BINARY = "application/octet-stream"


# Seconds before a message whose answer was lost is sent again: at once, since most connections break alone; then with
# time for a server to restart.
PAUSES = (0.0, 1.0, 3.0)


class PublishRefused(TriocastError):
    """The server answered and did not publish; the message says why."""

    code = "publish_refused"


class Elsewhere(PublishRefused):
    """The group is not where the message was to be published, but at `position`."""

    code = UnexpectedPosition.code

    def __init__(self, position: str) -> None:
        super().__init__(f"not published: the group is at {position} now; see what is new, then expect that")
        self.position = position

    def is_final(self, expected: str) -> bool:
        """Whether an earlier attempt with the same idempotency key has published nothing, too: in the same epoch what
        it had published would be answered with its receipt. In another, keys may be forgotten with the messages."""
        epoch, colon, _ = expected.partition(":")
        return bool(colon) and self.position.startswith(f"{epoch}:")


class AnswerLost(TriocastError):
    """The connection broke after the message was sent, or the server does not know either: unlike with
    `PublishRefused`, it may have been published."""

    code = "answer_lost"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the server says of a published message."""

    group: str
    epoch: str
    offset: int
    subscribers: int
    behind: int
    approximate: bool = False
    repeated: bool = False


class Publisher:
    """Publishes messages to one server; `close` it at the end."""

    def __init__(
        self, target: Target, api_key: str | None, timeout: float, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._target = target
        self._headers = {"Accept": JSON, "Host": target.host_header}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connection = _connection(target, timeout)
        self._sleep = sleep

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def publish(
        self, group: str, message: bytes, content_type: str, options: Mapping[str, str] = NO_OPTIONS
    ) -> Receipt:
        """Publish `message`, with the `options` that the address has for it, and return its receipt.

        Without an idempotency key nothing is sent twice. With one, a message whose answer was lost is sent again, a
        few times: the server publishes it once.

        Raises `CannotConnect`, `PublishRefused` (`Elsewhere`), or `AnswerLost` if it is not known whether it was
        published.
        """
        path = self._target.publish_path(group, options)
        try:
            return self._publish(path, message, content_type)
        except AnswerLost as lost:
            if "idempotency_key" not in options:
                raise
            return self._publish_again(path, message, content_type, lost, options.get("expected", ""))

    def _publish_again(self, path: str, message: bytes, content_type: str, lost: AnswerLost, expected: str) -> Receipt:
        error: TriocastError = lost
        for pause in PAUSES:
            self._sleep(pause)
            try:
                return self._publish(path, message, content_type)
            except TriocastError as again:
                if isinstance(again, Elsewhere) and again.is_final(expected):
                    raise
                error = again
        raise lost from error  # whatever was said since then, the message may have been published before

    def _publish(self, path: str, message: bytes, content_type: str) -> Receipt:
        self._connect()
        headers = self._headers | {"Content-Type": content_type}
        # A server that refuses a big message answers and stops reading: what it says is in its answer.
        with suppress(http.client.HTTPException, OSError):
            self._connection.request("POST", path, message, headers)
        return self._receipt()

    def _connect(self) -> None:
        sock = self._connection.sock
        if sock is not None and not select.select([sock], [], [], 0)[0]:
            return
        # None yet, or kept too long: a server that has something to say before it is asked is saying goodbye.
        self._connection.close()
        try:
            self._connection.connect()
        except OSError as error:
            raise cannot_reach(self._target, error) from error

    def _receipt(self) -> Receipt:
        try:
            response = self._connection.getresponse()
            body = response.read(MAX_ANSWER)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise AnswerLost(
                f"no answer from {self._target} ({why(error)}): the message may have been published or not"
            ) from error
        if response.status == 200 and (receipt := _parse(body)) is not None:
            return receipt
        self._connection.close()
        if _said(body, "code") == UnknownOutcome.code:
            raise AnswerLost(f"{self._target} does not know whether the message was published: {error_message(body)}")
        if (position := _said(body, "position")) is not None:
            raise Elsewhere(str(position))
        raise PublishRefused(_refusal(self._target, response, body))


def _connection(target: Target, timeout: float) -> http.client.HTTPConnection:
    if target.path is not None:
        return _UnixConnection(target.path, timeout)
    if target.tls:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(target.host, target.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(target.host, target.port, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._seconds)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _parse(body: bytes) -> Receipt | None:
    try:
        told: Any = json.loads(body)
        return Receipt(**{name: told[name] for name in Receipt.__slots__ if name in told})
    except (ValueError, TypeError):
        return None


def _said(body: bytes, name: str) -> object:
    """Return what a server's JSON error has of this name; None if there is none, or `body` is something else."""
    try:
        return json.loads(body)["error"][name]
    except (ValueError, TypeError, KeyError):
        return None


def _refusal(target: Target, response: http.client.HTTPResponse, body: bytes) -> str:
    """Say what a server that did not publish answered, and what can be done about it."""
    # Some servers send the number alone.
    reason = response.reason or http.client.responses.get(response.status, "")
    status = f"{response.status} {reason}".strip()
    message = error_message(body)
    if message is None:
        return f"{target} answered {status}, which is no answer of Triocast's: is this the right address?"
    advice = ""
    if (seconds := response.getheader("Retry-After")) is not None:
        advice = f"; try again in {seconds} s"
    elif response.status in {401, 403}:
        advice = "; the key is given with --api-key or TRIOCAST_API_KEY"
    return f"not published ({status}): {message}{advice}"
