"""One request for server-sent events, from dialling to the end of its answer, over h11.

Decides nothing about coming back: it reports how the connection ended.
"""

from __future__ import annotations

from contextlib import suppress

import h11
import trio

from triocast.client.attempt import (
    ABNORMAL,
    RECEIVE_BYTES,
    Attempt,
    Deliver,
    Ended,
    Opened,
    error_message,
    position_header,
)
from triocast.client.errors import CannotConnect, HandshakeRefused
from triocast.client.event_readers import EventReader, read_close
from triocast.client.events import EventStream
from triocast.client.stream import MAX_HANDSHAKE

ASKING = (
    ("Accept", "text/event-stream"),
    ("Accept-Encoding", "identity"),  # what is compressed on the way waits there until it is worth it
    ("Cache-Control", "no-store"),
)
STREAM = "text/event-stream"
Part = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage | None


class EventConnection:
    """One stream of events, as `Connection` describes it."""

    def __init__(self, attempt: Attempt, reader: EventReader) -> None:
        self._attempt = attempt
        self._settings = attempt.settings
        self._reader = reader
        self._http = h11.Connection(h11.CLIENT)
        self._stream: trio.abc.Stream | None = None

    async def run(self, deliver: Deliver, opened: Opened) -> Ended:
        """Run it. There is no goodbye to wait for: the socket is closed."""
        deadline = self._attempt.deadline()
        stream = self._stream = await self._attempt.reach(deadline)
        try:
            answer = await self._ask(stream, deadline)
            await opened(position_header(answer.headers.raw_items()))
            return await self._pump(stream, deliver)
        finally:
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        """Close the socket; whoever reads from it learns of that."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)

    async def _ask(self, stream: trio.abc.Stream, deadline: float) -> h11.Response:
        """Return the head of the answer, which is that of a stream of events."""
        try:
            with trio.fail_at(deadline):
                await stream.send_all(self._request())
                answer = await self._head(stream)
        except trio.TooSlowError as error:
            raise self._attempt.too_slow() from error
        except trio.BrokenResourceError as error:
            raise CannotConnect(f"cannot reach {self._attempt.target}: it closed the connection") from error
        except h11.RemoteProtocolError as error:
            raise self._attempt.not_for_us("gives no answer that is HTTP") from error
        if answer.status_code != 200:
            raise HandshakeRefused(answer.status_code, await self._why_refused(stream, deadline))
        headers = dict(answer.headers)
        kind = headers.get(b"content-type", b"").decode("latin1")
        if kind.partition(";")[0].strip().lower() != STREAM:
            raise self._attempt.not_for_us(f"sends no events ({kind or 'of no type'})")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise self._attempt.not_for_us("compresses what it sends, unasked")
        return answer

    def _request(self) -> bytes:
        headers = [("Host", self._attempt.target.host_header), *ASKING, *self._settings.headers.items()]
        try:
            head = self._http.send(h11.Request(method="GET", target=self._attempt.path, headers=headers))
        except h11.LocalProtocolError as error:
            raise CannotConnect(f"cannot ask {self._attempt.target}: {error}") from error
        self._http.send(h11.EndOfMessage())
        return head or b""

    async def _head(self, stream: trio.abc.Stream) -> h11.Response:
        while True:
            part = await self._next(stream)
            if isinstance(part, h11.Response):
                return part
            if not isinstance(part, h11.InformationalResponse):
                raise self._attempt.not_for_us("ends without an answer")

    async def _why_refused(self, stream: trio.abc.Stream, deadline: float) -> str:
        body = bytearray()
        with trio.move_on_at(deadline), suppress(h11.RemoteProtocolError, trio.BrokenResourceError):
            while len(body) < MAX_HANDSHAKE and isinstance(part := await self._next(stream), h11.Data):
                body += part.data
        return error_message(bytes(body)) or "no events there"

    async def _pump(self, stream: trio.abc.Stream, deliver: Deliver) -> Ended:
        events = EventStream(self._reader.max_data(self._settings.max_message))
        try:
            while isinstance(part := await self._next_or_silence(stream), h11.Data):
                for event in events.feed(bytes(part.data)):
                    ended = read_close(event)
                    if ended is not None:
                        return ended
                    await deliver(self._reader.read(event))
        except trio.TooSlowError:
            return Ended(ABNORMAL, f"no sign of life in {self._settings.max_silence:g} s")
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # cut off
        return Ended(ABNORMAL, "without a goodbye")

    async def _next_or_silence(self, stream: trio.abc.Stream) -> Part:
        """Return what comes next; raises `trio.TooSlowError` where nothing does. Who takes its time is not silence."""
        with trio.fail_after(self._settings.max_silence):
            return await self._next(stream)

    async def _next(self, stream: trio.abc.Stream) -> Part:
        """Return what comes next, None at the end of the connection."""
        while (part := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        return part if isinstance(part, Part) else None
