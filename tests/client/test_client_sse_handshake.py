"""A listener that gets no stream of events says why, on a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.client.event_server import CHUNKED, FORBIDDEN, HEAD, Clock, connected, joined, message, serving, take

from triocast.client import CannotConnect, HandshakeRefused, Received


@pytest.mark.parametrize(
    ("answer", "said", "temporary"),
    [
        (
            b"403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(FORBIDDEN), FORBIDDEN),
            "403: that is not for you",
            False,
        ),
        (b"404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "404: no events there", False),
        (b"302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n", "302: no events there", False),
        (b"204 No Content\r\n\r\n", "204: no events there", False),
        (b"503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "503: no events there", True),
        (b"429 Slow\r\nContent-Length: 9\r\n\r\n", "429: no events there", True),  # and no more comes
        (b"403 Forbidden\r\n\r\n" + b"x" * 200_000, "403: no events there", False),  # and it never ends
    ],
)
async def test_a_refusal_says_its_status_and_why(
    answer: bytes, said: str, temporary: bool, autojump_clock: Clock
) -> None:
    async with serving() as server:
        server.answer(b"HTTP/1.1 " + answer)
        with pytest.raises(HandshakeRefused, match=f"refused with {said}") as caught:
            async with server.listen():
                pytest.fail("there is no stream")
    assert caught.value.temporary is temporary


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "gives no answer that is HTTP"),
        (b"", "gives no answer that is HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "gives no answer that is HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "gives no answer that is HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", r"sends no events \(text/html\)"),
        (b"HTTP/1.1 200 OK\r\n\r\n", r"sends no events \(of no type\)"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n", "compresses what it sends, unasked"),
    ],
)
async def test_what_sends_no_events_is_told_from_a_server_that_does(
    answer: bytes, said: str, autojump_clock: Clock
) -> None:
    async with serving() as server:
        server.answer(answer, over=True)
        with pytest.raises(CannotConnect, match=said):
            async with server.listen():
                pytest.fail("there is no stream")
        assert trio.current_time() == 0


async def test_a_head_that_is_announced_may_follow(autojump_clock: Clock) -> None:
    head = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED
    async with serving() as server, connected(server, head=head) as (messages, asked):
        await asked.events(joined(0), message(1))
        assert await take(messages, 1) == [Received("x", "chat", 1)]


async def test_a_header_that_can_not_be_sent_is_said(autojump_clock: Clock) -> None:
    async with serving(headers={"X-Who": "me\r\nX-Else: you"}) as server:
        with pytest.raises(CannotConnect, match="cannot ask http://server:8000: Illegal header value"):
            async with server.listen():
                pytest.fail("there is no stream")


async def test_a_server_that_does_not_answer_is_given_up(autojump_clock: Clock) -> None:
    async with serving() as server:
        server.answer(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(CannotConnect, match="no answer in 10 s"):
            async with server.listen():
                pytest.fail("there is no stream")
        assert trio.current_time() == pytest.approx(10)
