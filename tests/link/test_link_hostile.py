"""Whatever bytes come first on a connection, they end that connection at most."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.events import Event, RawData

from tests.link.harness import (
    CLOSE,
    TEXT,
    UPGRADE,
    Application,
    Served,
    close_frame,
    frame,
    serve,
    settings,
)

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; "

REFUSED = {
    "protocol header": (UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", 400),
    "extensions header": (UPGRADE + b"Sec-WebSocket-Extensions: \xff\r\n\r\n", 400),
    "unknown sec-websocket header": (UPGRADE + b"Sec-WebSocket-Thing: \xff\r\n\r\n", 400),
    "connection header": (UPGRADE.replace(b"Connection: ", b"Connection: \xff, ") + b"\r\n", 400),
    "no key": (UPGRADE.replace(b"Sec-WebSocket-Key", b"X") + b"\r\n", 400),
    "no version": (UPGRADE.replace(b"Sec-WebSocket-Version", b"X") + b"\r\n", 400),
    "version of its own": (UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 400),
    "HTTP/1.0": (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", 400),
    "host in bytes": (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "prior knowledge": (PREFACE + bytes(9), 400),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\nHost: localhost\r\n\r\n", 400),
    "CONNECT": (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "address that is none": (b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no target": (b"GET ? HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "address that hides it": (b"GET http://%5B::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no request": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "two lengths": (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "negative length": (GET + b"Content-Length: -1\r\n\r\n", 400),
    "bad chunk": (GET.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "endless line": (b"GET /" + b"a" * 40_000, 431),
    "endless header": (GET + b"X: " + b"a" * 40_000, 431),
    "large head in one piece": (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
}

SERVED = {
    "h2c": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "h2c with bad settings": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: \xff\r\n\r\n",
    "h2c without settings": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "upgrade in bytes": GET + b"Connection: \xff\r\nUpgrade: \xff\r\n\r\n",
    "address": GET.replace(b"/ ", b"http://localhost/ ", 1) + b"\r\n",
    "path in bytes": GET.replace(b"/ ", b"/%ff%fe ") + b"\r\n",
}

ACCEPTED = {
    "bad window bits": UPGRADE + DEFLATE + b"client_max_window_bits=abc\r\n\r\n",
    "small window": UPGRADE + DEFLATE + b"server_max_window_bits=8\r\n\r\n",
    "bad frame behind": UPGRADE + b"\r\n\xff\xff\xff\xff",
    "good frame behind": UPGRADE + b"\r\n" + frame(TEXT, b"at once"),
    "close and frame behind": UPGRADE + b"\r\n" + close_frame(1000) + frame(TEXT, b"too late"),
}


async def still_serves(served: Served) -> None:
    """A second client gets its message."""
    other = await served.websocket()
    await other.send(frame(TEXT, b"still there?"))
    assert await other.frame() == (TEXT, b"still there?")
    await other.stream.aclose()


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_request_is_refused_in_plain_http(name: str) -> None:
    data, status = REFUSED[name]
    app = Application()
    async with serve(app) as served:
        client = await served.connect()
        await client.send(data)
        answer = await client.eof()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer.lower()
        await client.stream.aclose()
        await served.wait_empty()
        await still_serves(served)


@pytest.mark.parametrize("name", SERVED)
async def test_an_odd_request_is_served_as_plain_http(name: str) -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.send(SERVED[name])
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await client.stream.aclose()
        await served.wait_empty()
        await still_serves(served)


@pytest.mark.parametrize("name", ACCEPTED)
async def test_an_odd_handshake_is_accepted_without_compression(name: str) -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.send(ACCEPTED[name])
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-extensions" not in head.lower()
        await client.stream.aclose()
        await served.wait_empty()
        await still_serves(served)


async def test_frames_in_the_packet_of_the_upgrade_are_delivered() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        await client.upgrade(behind=frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert await client.frame() == (TEXT, b"one")
        assert await client.frame() == (TEXT, b"two")


async def test_a_close_in_the_packet_of_the_upgrade_comes_after_its_messages() -> None:
    app = Application()
    async with serve(app) as served:
        client = await served.connect()
        await client.upgrade(behind=frame(TEXT, b"one") + frame(TEXT, b"two") + close_frame(1000))
        assert await client.close() == (1000, "")
        await app.wait_ended()
        assert [event.get("text") for event in app.events] == [None, "one", "two", None]
        assert app.events[-1] == {"type": "websocket.disconnect", "code": 1000, "reason": ""}


async def test_frames_before_a_slow_accept_wait_and_are_bounded() -> None:
    accept = trio.Event()

    class Slow(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await accept.wait()
            await super().websocket(scope, receive, send)

    async with serve(Slow()) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n" + frame(TEXT, b"early"))
        assert await _sent_until_full(client) < 50 * 1024 * 1024
        accept.set()
        await client.until(b"\r\n\r\n")
        assert await client.frame() == (TEXT, b"early")


async def _sent_until_full(client: Any) -> int:
    """Send messages until the server takes no more; return how many bytes went."""
    sent = 0
    piece = frame(TEXT, b"x" * 60_000)
    with trio.move_on_after(1) as patience:
        while sent < 50 * 1024 * 1024:
            await client.socket.send(piece)
            sent += len(piece)
            patience.deadline = trio.current_time() + 0.2
    return sent


async def test_frames_behind_an_upgrade_that_is_rejected_are_dropped() -> None:
    class Rejects(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async with serve(Rejects()) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n" + frame(TEXT, b"one") * 1000)
        assert (await client.eof()).startswith(b"HTTP/1.1 403 ")
        await client.stream.aclose()
        await served.wait_empty()


async def test_a_rejected_handshake_ends_although_the_handler_goes_on() -> None:
    class Rejects(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.close"})
            await trio.sleep_forever()

    async with serve(Rejects()) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n")
        assert (await client.eof()).startswith(b"HTTP/1.1 403 ")


async def test_a_handler_that_ends_before_accepting_answers_500() -> None:
    class Leaves(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()

    async with serve(Leaves()) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n" + frame(TEXT, b"early"))
        assert (await client.eof()).startswith(b"HTTP/1.1 500 ")


async def test_a_handler_that_accepts_a_protocol_nobody_offered_answers_500() -> None:
    class Confused(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept", "subprotocol": "never-offered"})

    async with serve(Confused()) as served:
        client = await served.connect()
        await client.send(UPGRADE + b"\r\n")
        assert (await client.eof()).startswith(b"HTTP/1.1 500 ")
        await client.stream.aclose()
        await served.wait_empty()
        assert served.link.live == set()


async def test_a_host_that_is_not_ours_is_refused() -> None:
    config = Config()
    config.server_names = ["localhost"]
    async with serve(Application(), config=config) as served:
        for request in (GET + b"\r\n", UPGRADE + b"\r\n"):
            client = await served.connect()
            await client.send(request.replace(b"Host: localhost", b"Host: elsewhere"))
            assert (await client.eof()).startswith(b"HTTP/1.1 404 ")
            await client.stream.aclose()
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n")
        assert (await client.eof()).startswith(b"HTTP/1.1 400 ")
        await client.stream.aclose()
        await served.wait_empty()


async def test_half_a_head_is_given_up_on_after_header_timeout() -> None:
    async with serve(Application(), settings(header_timeout=0.3)) as served:
        for half in (b"", b"G", GET):
            client = await served.connect()
            if half:
                await client.send(half)
            await client.rest()
            await served.wait_empty()


async def test_half_a_later_head_is_given_up_on_although_idle_connections_are_kept() -> None:
    async with serve(Application(), settings(header_timeout=0.3, keep_alive=3600)) as served:
        client = await served.connect()
        assert b" 200 " in await client.request()
        await client.send(b"GET / HT")
        assert await client.rest() == b""
        await served.wait_empty()


async def test_an_idle_connection_is_closed_after_keep_alive() -> None:
    async with serve(Application(), settings(keep_alive=0.2)) as served:
        client = await served.connect()
        assert b" 200 " in await client.request()
        assert await client.eof() == b""
        await served.wait_empty()


async def test_half_a_tls_handshake_is_given_up_on_after_header_timeout() -> None:
    async with serve(Application(), settings(header_timeout=0.3), tls=True) as served:
        client = await served.connect()
        await client.send(b"\x16\x03\x01\x02\x00")
        await client.rest()
        await served.wait_empty()


async def test_plain_http_on_a_tls_port_ends_that_connection() -> None:
    async with serve(Application(), tls=True) as served:
        client = await served.connect()
        await client.send(GET + b"\r\n")
        await client.rest()
        await served.wait_empty()
        other = await served.websocket(alpn="http/1.1")
        await other.send(frame(TEXT, b"still there?"))
        assert await other.frame() == (TEXT, b"still there?")


@pytest.mark.parametrize("crash", [ValueError("wrong"), ExceptionGroup("both", [ValueError("a"), OSError("b")])])
async def test_a_crash_in_a_connection_ends_it_alone_and_is_logged_once(
    crash: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(Application()) as served:
        client, other = await served.websocket(), await served.websocket()
        link = next(link for link in served.link.live if link.peer.endswith(str(client.socket.getsockname()[1])))

        async def fail(event: Event) -> None:
            if isinstance(event, RawData):
                raise crash

        monkeypatch.setattr(link.protocol, "handle", fail)
        with caplog.at_level(logging.ERROR, logger="triocast.link"):
            await client.send(frame(TEXT, b"boom"))
            assert (await client.close())[0] == 1011
            assert await client.rest() == b""
            await other.send(frame(TEXT, b"alive"))
            assert await other.frame() == (TEXT, b"alive")
        (record,) = caplog.records
        assert link.peer in record.getMessage()
        assert record.exc_info is not None
        assert "wrong" in repr(record.exc_info[1]) or "both" in repr(record.exc_info[1])


async def test_cancelling_a_connection_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    with caplog.at_level(logging.DEBUG, logger="triocast.link"):
        async with serve(app) as served:
            await served.websocket()
            assert len(served.link.live) == 1
        assert served.link.live == set()
        assert app.ended == 1
    assert caplog.records == []


async def test_bad_frames_get_a_close_that_says_why() -> None:
    bad = {
        "reserved opcode": (b"\x83\x80" + bytes(4), 1002),
        "unmasked": (b"\x81\x01a", 1002),
        "reserved bit": (b"\xc1\x81" + bytes(4) + b"a", 1002),
        "fragmented ping": (b"\x09\x80" + bytes(4), 1002),
        "long ping": (b"\x89\xfe\x00\x7e" + bytes(4) + bytes(126), 1002),
        "continuation of nothing": (frame(0, b"a"), 1002),
        "invalid text": (frame(TEXT, b"\xff"), 1007),
        "close of one byte": (frame(CLOSE, b"a"), 1002),
        "close with a private code": (close_frame(1006), 1002),
    }
    app = Application()
    async with serve(app) as served:
        for name, (data, code) in bad.items():
            client = await served.websocket()
            await client.send(data)
            got, reason = await client.close()
            assert got == code, name
            assert reason, name
            assert await client.eof() == b""
            await client.stream.aclose()
        await app.wait_ended(len(bad))
        await served.wait_empty()
        codes = [event["code"] for event in app.events if event["type"] == "websocket.disconnect"]
        assert codes == [code for _, code in bad.values()]
