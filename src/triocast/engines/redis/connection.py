"""One connection to one server: coredis's, with a reader and a writer that cost the event loop one turn each.

Alone in knowing coredis's inside. It makes one connection and never another: who keeps one up is the line.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import coredis.exceptions as errors
import trio
from anyio import TASK_STATUS_IGNORED, BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ByteStream, TaskStatus
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.connection._request import BaseRequest
from coredis.constants.resp import DataType
from coredis.parser import NotEnoughData

from triocast.engines.redis.outgoing import Outgoing, plain_socket, receive_what_comes, send_what_goes
from triocast.engines.redis.reasons import describe
from triocast.settings.redis_address import TLS, Login, Place

Arg = bytes | str | int | float
Reply = Any
"""What a server answers: bytes, numbers, None, and lists of those."""

COMPACT = 256 * 1024  # bytes already parsed that coredis's parser may hold on to, which it lets go only by chance


@dataclass(frozen=True, slots=True)
class Access:
    """How to come in: who we are, which database, and TLS where it is wanted."""

    login: Login = field(default_factory=Login)
    db: int = 0
    tls: TLS | None = None


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """coredis reports an attempt to connect that was cancelled as an error, with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], trio.Cancelled))


logging.getLogger("coredis").addFilter(_is_no_cancellation)


class ConnectionLost(Exception):
    """The connection is over; whether the server has done what it was asked is not known."""


class Answer:
    """What one request waits for. Whoever stops waiting leaves it: a late reply is dropped with it."""

    __slots__ = ("_done", "_failed", "_value", "asked")

    current_decode = False
    current_encoding = None

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self._done = trio.Event()
        self._value: Reply = None
        self._failed: BaseException | None = None

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to come."""
        return self._done.is_set()

    def consume(self, value: Reply) -> None:
        """Take the reply, which may be an error of the server's."""
        self._value = value
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """The connection ended before there was a reply."""
        self._failed = error
        self._done.set()

    async def wait(self) -> Reply:
        """Return the reply; an error reply is returned as one. Raises `ConnectionLost`."""
        await self._done.wait()
        if self._failed is not None:
            raise ConnectionLost(str(self._failed) or type(self._failed).__name__) from self._failed
        return self._value


class Connection(BaseConnection):
    """What is ours of a connection. `told` is given what comes unasked for, in order, in the step that reads it:
    pushes as lists, and errors about commands that were sent with `tell`.

    As nothing is read before what was read is dealt with, at most one read (64 KiB) and an unfinished message are
    held: a process that is slow is felt by the server.
    """

    told: Callable[[Sequence[Reply]], None]
    heard: float
    """When something last came."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._outgoing = Outgoing(self._packer.pack_command)
        self._write_buffer_in.close()
        self._write_buffer_in = cast("Any", self._outgoing)
        self._socket: socket.socket | None = None  # what the writer writes to, if that is not encrypted

    def ask(self, *args: Arg) -> Answer:
        """Send a command that has one reply. Raises coredis's `ConnectionError` if nothing can be sent."""
        answer = Answer(trio.current_time())
        if self._requests or not self._written_now(args):
            self.tell(*args)
        self._requests.append(cast("BaseRequest", answer))
        return answer

    def tell(self, *args: Arg) -> None:
        """Send a command whose outcome is told. Raises coredis's `ConnectionError` if nothing can be sent."""
        name, *rest = args
        self.send_command(cast("bytes", name), *rest)

    def _written_now(self, args: Sequence[Arg]) -> bool:
        """Write a command in this step: with nothing on its way, there is nothing to join it with. False if that
        can't be done."""
        if self._socket is None or not (self._outgoing.empty and self.usable):
            return False
        name, *others = args
        data = b"".join(self._packer.pack_command(cast("bytes", name), *others))
        try:
            rest = send_what_goes(self._socket, data)
        except OSError:  # the writer will meet it too
            return False
        if rest:
            self._outgoing.put([rest])
        return True

    @property
    def asked(self) -> float | None:
        """When the oldest request was made that has no reply yet."""
        first = self._requests[0] if self._requests else None
        return first.asked if isinstance(first, Answer) else None

    @property
    def waiting(self) -> int:
        """How many requests have no reply yet."""
        return len(self._requests)

    @property
    def unsent(self) -> int:
        """How many bytes wait for the server to take them."""
        return self._outgoing.size

    @property
    def over(self) -> str:
        """Why the connection ended, as far as it knows."""
        error = self._last_error
        return "" if error is None else describe(error)

    def give_up(self, why: str) -> None:
        """End the connection: who waits for a reply learns that there will be none."""
        self._last_error = self._last_error or errors.ConnectionError(why)
        self.invalidate(why)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Connect, and stay until the connection ends. Raises coredis's errors if it could not be made."""
        try:
            await super().run(task_status=task_status)
        finally:  # coredis leaves them open where nothing could be connected to
            self._write_buffer_in.close()
            self._write_buffer_out.close()
            self._push_message_buffer_in.close()
            self._push_message_buffer_out.close()
            self._streamed_message_buffer_in.close()
            self._streamed_message_buffer_out.close()

    def _data_received(self, data: bytes) -> None:
        self.heard = trio.current_time()
        self._parser.feed(data)
        told: list[Reply] = []
        while not isinstance(response := self._parser.parse(), NotEnoughData):
            kind, value = response
            if kind != DataType.PUSH and self._requests:
                self._requests.popleft().consume(value)
            else:
                told.append(value)
        self._compact()
        if told:
            self.told(told)

    def _compact(self) -> None:
        parser = self._parser
        if parser.bytes_read > COMPACT:
            parser.localbuffer.seek(parser.bytes_read)
            rest = parser.localbuffer.read(parser.bytes_written - parser.bytes_read)
            parser.localbuffer.seek(0)
            parser.localbuffer.truncate()
            parser.bytes_read = parser.bytes_written = 0
            parser.feed(rest)

    async def _reader_task(self) -> None:
        """Deal with each read in the turn in which it came."""
        stream = cast("ByteStream", self.stream)
        plain = plain_socket(stream)
        while True:
            try:
                data = await (stream.receive() if plain is None else receive_what_comes(plain))
            except (EndOfStream, ClosedResourceError, BrokenResourceError, OSError) as error:
                self._transport_failed = True
                raise errors.ConnectionError("the connection was lost while receiving") from error
            self._data_received(data)

    async def _writer_task(self) -> None:
        """Write all that waits at once."""
        stream = cast("ByteStream", self.stream)
        plain = self._socket = plain_socket(stream)
        while True:
            data = await self._outgoing.take()
            try:
                rest = data if plain is None else send_what_goes(plain, data)
                if rest:
                    await stream.send(rest)
            except (ClosedResourceError, BrokenResourceError, OSError) as error:
                self._transport_failed = True
                raise errors.ConnectionError("the connection was lost while sending") from error


class _OverTCP(Connection, TCPConnection):
    pass


class _OverUnix(Connection, UnixDomainSocketConnection):
    pass


def new_connection(place: Place, access: Access, timeout: float, told: Callable[[Sequence[Reply]], None]) -> Connection:
    """Return a connection, which is made once its `run` runs, within `timeout` seconds but for the greeting."""
    given: dict[str, Any] = {
        "connect_timeout": timeout,
        "username": access.login.user or ("default" if access.login.password else None),
        "password": access.login.password,
        "db": access.db,
        "client_name": "triocast",
    }
    connection: Connection
    if place.path is not None:
        connection = _OverUnix(UnixDomainSocketLocation(place.path), **given)
    else:
        context = None if access.tls is None else _tls_context(access.tls)
        connection = _OverTCP(TCPLocation(place.host, place.port), ssl_context=context, **given)
    connection.told = told
    connection.heard = trio.current_time()
    return connection


@cache
def _tls_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.cafile)
    if tls.certfile is not None:
        context.load_cert_chain(tls.certfile, tls.keyfile)
    return context
