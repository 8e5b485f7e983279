"""The listener over real sockets: TCP, TLS and Unix."""

import ssl
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace

import pytest
import trio
import trio_websocket
import trustme
from tests.served import served

from triocast.client import CannotConnect, HandshakeRefused, ListenerSettings, Received, open_listener
from triocast.link.host import open_host
from triocast.settings import Settings
from triocast.web.app import create_app

PATIENCE = 10


async def greet(request):
    websocket = await request.accept()
    await websocket.send_message(f"{request.path} {dict(request.headers).get(b'x-who', b'').decode()}")
    with pytest.raises(trio_websocket.ConnectionClosed):
        await websocket.get_message()


@asynccontextmanager
async def serving(listeners):
    server = trio_websocket.WebSocketServer(greet, listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield
        nursery.cancel_scope.cancel()


async def first_message(url, **settings):
    with trio.fail_after(PATIENCE):
        async with open_listener(url, ["a:b"], format="raw", settings=ListenerSettings(**settings)) as messages:
            return await anext(messages)


async def test_over_tcp_with_headers_of_ones_own_and_a_path_before_ours():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with serving(listeners):
        received = await first_message(f"http://127.0.0.1:{port}/push", headers={"X-Who": "me"})
    assert received == Received("/push/ws?group=a%3Ab&format=raw&strict=1 me", "a:b")


async def test_over_a_unix_socket(tmp_path):
    path = tmp_path / "t.sock"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()

    async def handle(stream):
        async with trio.open_nursery() as nursery:
            await greet(await trio_websocket.wrap_server_stream(nursery, stream))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, [trio.SocketListener(sock)]))
        assert (await first_message(f"unix:{path}")).data == "/ws?group=a%3Ab&format=raw&strict=1 "
        nursery.cancel_scope.cancel()


@pytest.fixture
def authority():
    return trustme.CA()


@asynccontextmanager
async def serving_tls(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with serving(listeners):
        yield listeners[0].transport_listener.socket.getsockname()[1]


async def test_over_tls_with_a_certificate_that_is_trusted(authority):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving_tls(authority) as port:
        received = await first_message(f"https://localhost:{port}", ssl_context=trusting)
    assert received.data == "/ws?group=a%3Ab&format=raw&strict=1 "


# Server-sent events


@asynccontextmanager
async def recutting(port):
    """Stand between a client and the server at `port`: pass on what comes, cut in pieces of other sizes."""

    async def pass_on(source, sink, size):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(size):
                await sink.send_all(data)
        await trio.aclose_forcefully(sink)

    async def handle(stream):
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, stream, server, 7)
            nursery.start_soon(pass_on, server, stream, 3)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, listeners))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def hear(server, url, form, **settings):
    """Listen to two groups by events, and return what comes of what is published."""
    settings = ListenerSettings(**settings)
    with trio.fail_after(PATIENCE):
        async with open_listener(url, ["a", "b"], format=form, transport="sse", settings=settings) as messages:
            for group, data in (("a", "text"), ("b", b"\x00\xff"), ("a", "x" * 100_000)):
                await server.push.group(group).send(data)
            items = [await anext(messages) for _ in range(3)]
    # Each group's are in order.
    return sorted(items, key=lambda item: (item.group, item.offset))


HEARD = [Received("text", "a", 1), Received("x" * 100_000, "a", 2), Received(b"\x00\xff", "b", 1)]
EVERY_FORMAT = pytest.mark.parametrize("form", ["json", "raw"])


@EVERY_FORMAT
async def test_events_over_tcp_with_something_between_that_cuts_them(form):
    async with served() as server, recutting(server.port) as port:
        assert await hear(server, f"http://127.0.0.1:{port}", form) == HEARD


@EVERY_FORMAT
async def test_events_over_tls(form, authority):
    context, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(trusting)
    async with served(tls=context, trust=trusting) as server:
        assert await hear(server, f"https://localhost:{server.port}", form, ssl_context=trusting) == HEARD


async def test_events_over_a_unix_socket(tmp_path):
    path = tmp_path / "t.sock"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    app = create_app(Settings())
    async with open_host(app, Settings()) as host, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, host.serve, [trio.SocketListener(sock)])
        push = app.extensions["triocast"]
        assert await hear(SimpleNamespace(push=push), f"unix:{path}", "json") == HEARD
        host.reset_all()
        nursery.cancel_scope.cancel()


async def test_events_are_refused_in_the_servers_words():
    async with served(Settings(max_groups_per_connection=1)) as server:
        with pytest.raises(HandshakeRefused, match="refused with 400: too many groups: 1 a client"):
            await hear(server, f"http://127.0.0.1:{server.port}", "json")


async def test_nobody_there_is_said_in_plain_words():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(CannotConnect, match=rf"^cannot reach http://127.0.0.1:{port}: connection refused$") as caught:
        await first_message(f"http://127.0.0.1:{port}")
    assert caught.value.nobody_there


async def test_a_unix_socket_that_is_not_there_is_said_too(tmp_path):
    with pytest.raises(CannotConnect, match=r"no such file or directory$"):
        await first_message(f"unix:{tmp_path}/none")


async def test_tls_spoken_to_a_server_without_it_is_said():
    async def answer_plainly(stream):
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, answer_plainly, listeners))
        with pytest.raises(CannotConnect, match="it does not speak TLS"):
            await first_message(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        nursery.cancel_scope.cancel()


async def test_a_certificate_that_is_not_trusted_is_said(authority):
    async def shake_hands_in_vain(stream):
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await stream.do_handshake()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, shake_hands_in_vain, listeners))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with pytest.raises(CannotConnect, match="its certificate is not trusted"):
            await first_message(f"https://localhost:{port}")
        nursery.cancel_scope.cancel()
