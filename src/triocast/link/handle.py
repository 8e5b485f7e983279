"""What an application may know of, and do to, the connection under it: one handle in `scope["state"]`.

It never exposes the socket: whoever wants to write asks the link's writer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from triocast.link.writing import Writer
from triocast.meters import Eviction

LINK_KEY = "triocast.link"
"""The key in `scope["state"]` under which an application finds its `Handle`."""


class Underneath(Protocol):
    """What the handle needs of the connection."""

    gone: trio.Event
    writer: Writer

    @property
    def terminating(self) -> bool: ...
    @property
    def takes_frames(self) -> bool: ...
    @property
    def eviction(self) -> Eviction | None: ...
    @property
    def wait_terminating(self) -> Callable[[], Awaitable[None]]: ...
    def begin_data(self) -> None: ...
    def begin_stream(self) -> None: ...
    def begin_chunks(self) -> bool: ...
    def reset(self) -> None: ...


class Handle:
    """One connection, as its application sees it.

    `progress_watched` says that a write making no progress for `write_timeout` ends the connection, so that nobody
    above needs a deadline around `send`. `deflates` says that the client understands compressed frames without context
    takeover (RFC 7692); it is known before the handshake is answered.
    """

    __slots__ = ("_link", "deflates")

    progress_watched = True

    def __init__(self, link: Underneath) -> None:
        self._link = link
        self.deflates = False  # the protocol says so

    @property
    def is_gone(self) -> bool:
        """True from the moment that the client's end is seen, or the connection is reset."""
        return self._link.gone.is_set()

    async def wait_gone(self) -> None:
        """Wait until the client is gone; returns even while messages of its are still unread. Cancellable."""
        await self._link.gone.wait()

    @property
    def is_terminating(self) -> bool:
        """True once the server accepts no more connections."""
        return self._link.terminating

    @property
    def wait_terminating(self) -> Callable[[], Awaitable[None]]:
        """What waits, when it is called, until the server begins to stop. Cancellable; it keeps nothing of the
        connection, which may be over long before."""
        return self._link.wait_terminating

    @property
    def eviction(self) -> Eviction | None:
        """Why the connection was reset from here, if it was because the client took nothing or answered no ping."""
        return self._link.eviction

    def abort(self) -> None:
        """Reset the connection now (TCP RST): nothing more is written, unsent bytes are dropped. Harmless twice."""
        self._link.reset()

    # Writing frames, on a WebSocket over HTTP/1.1

    @property
    def takes_frames(self) -> bool:
        """Whether the connection is a WebSocket whose frames may be written past the protocol."""
        return self._link.takes_frames

    @property
    def outlet(self) -> Writer | None:
        """Where whole frames may be written without waiting while it is `ready`; None over TLS."""
        return self._link.writer.outlet

    async def wait_writable(self) -> None:
        """Wait until the client can take more, having written what is left of a frame that was begun.

        Raises `trio.BrokenResourceError` once a Close frame or the end of the answer is out, or the client is gone.
        Cancellable.
        """
        await self._link.writer.wait_writable()

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Write whole frames, right after `wait_writable`; returns when the kernel has them, raises as that does."""
        await self._link.writer.send_frames(frames)

    # Writing chunks, of an answer over HTTP that has no end of its own

    def begin_stream(self) -> None:
        """The answer to come goes on until somebody leaves: what else the client sends on this connection is dropped,
        so that its end is seen behind it (not over HTTP/2, where requests do not wait for each other), and a peer
        that acknowledges nothing any more is found by the kernel. The connection can't be used for another request.
        """
        self._link.begin_stream()

    def begin_chunks(self) -> bool:
        """Let `send_frames` take whole chunks of the answer whose head has just been sent, until `end_data`; comments
        are sent between them as heartbeats. False where that can't be: not HTTP/1.1, or no chunks, or encoded ones.
        """
        return self._link.begin_chunks()

    def begin_data(self) -> None:
        """The handshake is answered; for the protocol."""
        self._link.begin_data()

    def end_data(self) -> None:
        """A Close frame or the end of the answer comes next: write nothing more past the protocol."""
        self._link.writer.end_data()

    def __deepcopy__(self, memo: object) -> Handle:
        # Middleware copies scopes deeply (Hypercorn's ProxyFixMiddleware does); a connection has no second copy.
        return self

    def __repr__(self) -> str:
        return f"<Handle {'gone' if self.is_gone else 'open'}>"
