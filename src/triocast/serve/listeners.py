"""Opens what the server listens on: TCP, TLS and Unix sockets, or says in a sentence why it can't.

It accepts nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import trio

from triocast.errors import TriocastError
from triocast.settings import Settings
from triocast.settings.address import Address, parse_address

# Seconds for which the kernel keeps a connection to itself until its client has said something (Linux; a client of TLS
# speaks first too). Accepted before, a thousand that come back at once would be read in one turn of the event loop, of
# 30 ms. A client that stays silent comes in after this time, and has `header_timeout` from then on.
DEFER = 1
BACKLOG = 4096  # connections the kernel holds while we are busy; a reconnect storm brings them all at once

Listener = trio.SocketListener | trio.SSLListener[trio.SocketStream]


class CannotListen(TriocastError):
    """An address is taken, not ours to take, or not there."""

    code = "cannot_listen"


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens, and the address it really has (a port of 0 has become one)."""

    socket: trio.socket.SocketType
    address: Address


@dataclass(frozen=True, slots=True)
class Listening:
    """What accepts connections, and where."""

    listener: Listener
    address: Address


@asynccontextmanager
async def open_sockets(settings: Settings) -> AsyncIterator[list[Bound]]:
    """Listen on every address of `settings.bind` while the block lasts.

    Raises `CannotListen`; then nothing is left open.
    """
    async with AsyncExitStack() as stack:
        opened: list[Bound] = []
        for text in settings.bind:
            address = parse_address(text)
            for listener in await _open(address):
                await stack.enter_async_context(listener)
                if address.path is not None:
                    stack.callback(_remove_socket, address.path, os.stat(address.path).st_ino)
                opened.append(Bound(listener.socket, _address_of(listener, address)))
        yield opened


def listen_on(bound: Sequence[Bound], settings: Settings) -> list[Listening]:
    """Return what accepts from the sockets, with TLS where the settings have it. Raises `CannotListen`."""
    tls = tls_context(settings)
    return [Listening(_with_tls(trio.SocketListener(each.socket), tls), each.address) for each in bound]


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context for `certfile` and `keyfile`, None when there are none. Raises `CannotListen`."""
    if settings.certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(settings.certfile, settings.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise CannotListen(
            f"can't use certfile {settings.certfile} with keyfile {settings.keyfile}: {error}"
        ) from error
    return context


async def _open(address: Address) -> list[trio.SocketListener]:
    try:
        if address.path is not None:
            return [await _open_unix(address.path)]
        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(f"can't listen on {address}: {_why(error)}") from error
    if sys.platform == "linux":
        for listener in listeners:
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER)
    return listeners


async def _open_unix(path: str) -> trio.SocketListener:
    _clear_stale(path)
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


def _clear_stale(path: str) -> None:
    """Remove the socket of a server that is gone; one that answers, or a file that is no socket, is left alone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file of that name which is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another server is listening there")


def _remove_socket(path: str, inode: int) -> None:
    with suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


def _with_tls(listener: trio.SocketListener, context: ssl.SSLContext | None) -> Listener:
    return listener if context is None else trio.SSLListener(listener, context, https_compatible=True)


def _address_of(listener: trio.SocketListener, asked: Address) -> Address:
    if asked.path is not None:
        return asked
    host, port, *_ = listener.socket.getsockname()
    return Address(host, port)


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is in use; is another server running? --bind HOST:PORT chooses another"
        case errno.EACCES | errno.EPERM:
            return "not permitted; ports below 1024 need a privilege, a Unix socket a folder one may write to"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return error.strerror or str(error)
