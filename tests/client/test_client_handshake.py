"""A listener that gets no connection says why, on a virtual clock."""

import pytest
import trio
import trio.testing
from tests.client.websocket_server import FORBIDDEN, URL, serving

from triocast.client import CannotConnect, HandshakeRefused, InvalidURL, ListenerSettings, open_listener
from triocast.errors import InvalidGroupName, InvalidPosition


async def test_a_refused_handshake_raises_what_the_server_said(autojump_clock):
    async with serving() as server:
        server.soon(server.reject, 403, FORBIDDEN)
        with pytest.raises(HandshakeRefused, match="refused with 403: that is not for you") as caught:
            async with server.listen():
                pytest.fail("there is no connection")
    assert (caught.value.http_status, caught.value.temporary) == (403, False)


async def test_a_refusal_without_triocasts_message_says_its_status(autojump_clock):
    async with serving() as server:
        server.soon(server.reject, 404)
        with pytest.raises(HandshakeRefused, match="refused with 404: no WebSocket there"):
            async with server.listen():
                pytest.fail("there is no connection")


async def test_a_server_that_cannot_be_dialled_is_an_error_at_once(autojump_clock):
    async def dial(target, context):
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(111, "error connecting to (...): Connection refused")

    with pytest.raises(CannotConnect, match=r"^cannot reach http://server:8000: connection refused$") as caught:
        async with open_listener(URL, ["chat"], settings=ListenerSettings(dial=dial)):
            pytest.fail("there is no connection")
    assert caught.value.nobody_there


async def test_a_server_that_does_not_answer_the_handshake_is_given_up(autojump_clock):
    async with serving() as server:
        with pytest.raises(CannotConnect, match="no answer in 10 s"):
            async with server.listen():
                pytest.fail("there is no connection")
        assert trio.current_time() == pytest.approx(10)


async def test_dialling_and_handshake_share_one_deadline(autojump_clock):
    async def dial(target, context):
        await trio.sleep_forever()

    with pytest.raises(CannotConnect, match="no answer in 3 s"):
        async with open_listener(URL, ["chat"], settings=ListenerSettings(dial=dial, connect_timeout=3)):
            pytest.fail("there is no connection")
    assert trio.current_time() == pytest.approx(3)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
        ),
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000,
    ],
)
async def test_what_does_not_speak_websocket_is_told_from_a_server_that_does(answer, autojump_clock):
    async def answer_with_that():
        stream = await server.stream()
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.send_eof() if not answer else await trio.sleep_forever()

    async with serving() as server:
        server.soon(answer_with_that)
        with pytest.raises(CannotConnect, match="does not speak WebSocket"):
            async with server.listen():
                pytest.fail("there is no connection")
        assert trio.current_time() == 0


async def test_mistakes_are_named_before_anything_is_dialled():
    for error, url, groups, begin in (
        (InvalidURL, "nowhere", ["a"], {}),
        (InvalidGroupName, URL, ["a b"], {}),
        (ValueError, URL, [], {}),
        (ValueError, URL, "chat", {}),
        (InvalidPosition, URL, ["a"], {"since": "7"}),
        (ValueError, URL, ["a", "b"], {"since": "e:7"}),
        (ValueError, URL, ["a", "b"], {"since": {"a": "e:7"}}),
        (ValueError, URL, ["a"], {"since": "0", "last": 1}),
        (ValueError, URL, ["a"], {"last": 0}),
    ):
        with pytest.raises(error):
            async with open_listener(url, groups, **begin):
                pytest.fail("there is no connection")
