"""The listener over real sockets: TCP, TLS and Unix."""

import ssl
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket
import trustme

from triocast.client import CannotConnect, ListenerSettings, Received, open_listener

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
