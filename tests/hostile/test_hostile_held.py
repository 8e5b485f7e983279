"""What is begun and not ended, or goes on a byte at a time, is ended by the server within its time limits."""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

import pytest
import trio

from tests.hostile.attacker import Case, upgrade
from tests.hostile.bodies import CHUNKED, PART, form
from tests.hostile.heads import CLIENT_HELLO, HEAD, OK, POST, get, status
from tests.hostile.scene import hasty, scene
from tests.served import PATIENCE

PACE = 0.01  # seconds between the bytes of those who send slowly; far more often than any limit asks

HALVES = {
    "nothing": Case(b"", b""),
    "a letter": Case(b"G", b""),
    "a line end": Case(b"\r\n", b""),
    "half a line": Case(b"GET /health/live HT", b""),
    "a line": Case(b"GET /health/live HTTP/1.1\r\n", b""),
    "a head without its end": Case(HEAD, b""),
    "half an upgrade": Case(upgrade()[:-2], b""),
    "half a second head": Case(get(b"/health/live") + HEAD[:-10], OK),
    "half a second head in a packet of its own": Case((get(b"/health/live"), HEAD[:-10]), OK),
    "nothing behind a request": Case(get(b"/health/live"), OK),
    "nothing behind a bad one": Case(get(b"/nothing"), status(404)),
    "a body that does not come": Case(POST + b"Content-Length: 5\r\n\r\n", status(408)),
    "half a body": Case(POST + b"Content-Length: 5\r\n\r\nhe", status(408)),
    "half a chunk": Case(CHUNKED + b"5\r\nhe", status(408)),
    "half a chunk size": Case(CHUNKED + b"5", status(408)),
    "chunks without end": Case(CHUNKED + b"5\r\nhello\r\n", status(408)),
    "half a trailer": Case(CHUNKED + b"5\r\nhello\r\n0\r\nX: y", status(408)),
    "half a form": Case(form(PART).replace(b"Content-Length: ", b"Content-Length: 1"), status(408)),
    "a body where nobody wants one": Case(HEAD + b"Content-Length: 5\r\n\r\nhe", OK),
    "a body for nothing": Case(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe", status(404)),
    "a body for a group that can be none": Case(POST.replace(b"target", b"*") + b"Content-Length: 5\r\n\r\nhe", status(400, 408)),
    "half a TLS hello": Case(CLIENT_HELLO[:20], b""),
}  # fmt: skip

LETTERS = b"a" * 9_000
DRIBBLES = {
    "a head": (b"", HEAD + b"X: " + LETTERS, b""),
    "an upgrade": (b"", upgrade()[:-2] + b"X: " + LETTERS, b""),
    "empty lines": (b"", b"\r\n" * 4_000, b""),
    "a body": (POST + b"Content-Length: 9000\r\n\r\n", LETTERS, status(408)),
    "chunks": (CHUNKED, b"1\r\nx\r\n" * 2_000, status(408)),
    "a chunk extension": (CHUNKED + b"1;", LETTERS, status(408)),
    "a trailer": (CHUNKED + b"0\r\nX: ", LETTERS, status(408)),
    "a second head": (get(b"/health/live"), HEAD + b"X: " + LETTERS, OK),
}
"""What is sent at once, what is then sent a byte at a time, and the answer."""


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in HALVES.items()])
async def test_half_a_request_is_given_up_on(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


async def test_half_requests_of_many_are_given_up_on() -> None:
    async with scene() as now, trio.open_nursery() as nursery:

        async def hold(half: bytes, *, task_status: trio.TaskStatus[None]) -> None:
            async with now.attacker() as attacker:
                await attacker.send(half)
                task_status.started()
                await attacker.until_end()

        for count in range(150):
            await nursery.start(hold, (b"", HEAD, POST + b"Content-Length: 5\r\n\r\n")[count % 3])
        await now.ask()
        await now.alone()
        assert not now.log.alarms


@pytest.mark.parametrize("name", DRIBBLES)
async def test_a_request_that_comes_a_byte_at_a_time_gets_no_more_time(name: str) -> None:
    begin, slow, answer = DRIBBLES[name]
    async with scene() as now:
        async with now.attacker() as attacker:
            await attacker.send(begin)
            with trio.fail_after(PATIENCE):
                for byte in slow:
                    if not await attacker.send(bytes([byte])):
                        break
                    await trio.sleep(PACE)
                else:
                    raise AssertionError("all of it was taken")
            if answer:
                await attacker.until(answer)
            await now.alone()
        await now.aftermath()


async def test_a_handshake_that_comes_a_byte_at_a_time_is_as_good_as_any() -> None:
    async with scene(hasty(header_timeout=30.0)) as now:
        case = Case(tuple(bytes([byte]) for byte in upgrade()), status(101), stays=True)
        await now.run(case)
