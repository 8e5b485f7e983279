"""Puts the link under Hypercorn: a class for our own serve loop, or openly in place of Hypercorn's own.

It never half-does it: a Hypercorn that it does not know is left alone, loudly.
"""

from __future__ import annotations

import logging
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from triocast.settings import Settings

if TYPE_CHECKING:
    from triocast.link.link import Link

logger = logging.getLogger("triocast.link")

MADE_FOR = "0.18."
# What the link builds on beside Hypercorn's public face. Each is there in 0.18.0; a release may move any of them.
RELIED_ON = {
    "hypercorn.trio.run": ("TCPServer", "worker_serve"),
    "hypercorn.trio.tcp_server": ("TCPServer.__await__", "TCPServer.run", "TCPServer.protocol_send"),
    "hypercorn.trio.task_group": ("TaskGroup.spawn", "TaskGroup.spawn_app", "_handle"),
    "hypercorn.trio.worker_context": ("WorkerContext",),
    "hypercorn.events": ("Closed", "RawData", "Updated"),
    "hypercorn.protocol.events": (
        "Body",
        "Data",
        "EndBody",
        "EndData",
        "Request",
        "Response",
        "StreamClosed",
        "Trailers",
    ),
    "hypercorn.protocol.h11": (
        "STREAM_ID",
        "H11WSConnection",
        "H11Protocol.stream_send",
        "H11Protocol._close_stream",
        "H11Protocol._handle_events",
        "H11Protocol._maybe_recycle",
        "H11Protocol._send_error_response",
        "H11Protocol._send_h11_event",
    ),
    "hypercorn.protocol.h2": (
        "H2Protocol.send_task",
        "H2Protocol.stream_send",
        "H2Protocol._close_stream",
        "H2Protocol._flush",
        "H2Protocol._send_data",
    ),
    "hypercorn.protocol.http_stream": ("HTTPStream.handle", "HTTPStream.app_send"),
    "hypercorn.protocol.ws_stream": (
        "ASGIWebsocketState.CONNECTED",
        "Handshake.accept",
        "WebsocketBuffer.to_message",
        "WSStream.app_send",
        "WSStream._accept",
        "WSStream._handle_events",
        "WSStream._send_wsproto_event",
    ),
    "hypercorn.utils": ("filter_pseudo_headers", "parse_socket_addr"),
}

UNKNOWN = (
    "this Hypercorn (%s) is not one that triocast's hardened connections were made for: %s. It serves unhardened: one "
    "malformed request can end the server, a client that does not read cannot be got rid of, and a stop can hang. "
    "Install hypercorn>=0.18,<0.19, or a triocast that knows this one"
)


def link_class(settings: Settings) -> type[Link]:
    """Return a `Link` bound to `settings`, with its own set of live links, to serve connections with."""
    from triocast.link.link import Link  # noqa: PLC0415  (see install: it may not import)

    return type("BoundLink", (Link,), {"settings": settings, "live": set()})


def install(settings: Settings) -> bool:
    """Replace the connection class of `hypercorn -k trio` by one bound to `settings`; returns whether that was done.

    The last settings win, for connections of servers that start later. Before an unknown Hypercorn nothing is changed,
    and a warning says what that means.
    """
    why = unfit()
    if why is not None:
        logger.warning(UNKNOWN, metadata.version("hypercorn"), why)
        return False
    run = import_module("hypercorn.trio.run")
    run.TCPServer = link_class(settings)  # type: ignore[attr-defined]
    return True


def unfit() -> str | None:
    """Return what is unknown about the installed Hypercorn, None if nothing is."""
    version = metadata.version("hypercorn")
    if not version.startswith(MADE_FOR):
        return f"it is not {MADE_FOR}x"
    missing = [f"{module}.{name}" for module, names in RELIED_ON.items() for name in names if not _has(module, name)]
    return f"{', '.join(missing)} missing" if missing else None


def _has(module: str, path: str) -> bool:
    try:
        thing: object = import_module(module)
        for name in path.split("."):
            thing = getattr(thing, name)
    except (ImportError, AttributeError):
        return False
    return True
