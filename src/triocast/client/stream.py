"""The byte stream under a client's connection: opening it, and watching it for silence and for its end.

Knows nothing of HTTP or WebSocket.
"""

from __future__ import annotations

import ssl

import trio

from triocast.client.target import Target

# What a server may send before the handshake is done: a page of refusal, not a download.
MAX_HANDSHAKE = 64 * 1024


async def dial(target: Target, context: ssl.SSLContext | None) -> trio.abc.Stream:
    """Connect to `target`; raises `OSError`, or `trio.BrokenResourceError` if the TLS handshake fails."""
    if target.path is not None:
        return await trio.open_unix_socket(target.path)
    stream = await trio.open_tcp_stream(target.host, target.port)
    if not target.tls:
        return stream
    secure = trio.SSLStream(
        stream, context or ssl.create_default_context(), server_hostname=target.host, https_compatible=True
    )
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


class WatchedStream(trio.abc.Stream):
    """Passes bytes through, and tells how long the other side has been silent and when it has ended.

    It is silent only while somebody waits for its bytes: a consumer that takes its time is not a server that
    is gone.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reading_since: float | None = None
        self._allowance: int | None = MAX_HANDSHAKE
        self.ended = trio.Event()

    def handshake_done(self) -> None:
        """Lift the limit on what may come in."""
        self._allowance = None

    async def wait_silent(self, seconds: float) -> None:
        """Return once nothing came for `seconds` on end although it was waited for."""
        while (left := seconds - self._silent_for()) > 0:  # noqa: ASYNC110 (waits for time to pass, not an event)
            await trio.sleep(left)

    def _silent_for(self) -> float:
        return 0.0 if self._reading_since is None else trio.current_time() - self._reading_since

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as the stream below does."""
        self._reading_since = trio.current_time()
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.ended.set()
            raise
        finally:
            self._reading_since = None
        self._count(len(data))
        return data

    def _count(self, size: int) -> None:
        if self._allowance is not None:
            self._allowance -= size
        if not size or (self._allowance is not None and self._allowance < 0):
            self.ended.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as the stream below does."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the stream below does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream below; whoever waits for the end is told."""
        self.ended.set()
        await self._stream.aclose()
