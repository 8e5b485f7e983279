"""One connection sends what it should not; it is answered and ended, and nobody else notices."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.hostile.attacker import MIB, Case, upgrade
from tests.hostile.bodies import CONTENT, FRAMING
from tests.hostile.frames import BEHIND, FRAMES, closed
from tests.hostile.heads import ACCESS, HEADERS, NO_REQUESTS, TARGETS, UPGRADES, get, status
from tests.hostile.scene import hasty, scene
from tests.link.harness import frame


def each(cases: Mapping[str, Case]) -> pytest.MarkDecorator:
    """Run a test with each of these cases."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in cases.items()])


@each(UPGRADES)
async def test_an_upgrade(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(NO_REQUESTS)
async def test_what_is_no_request(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(HEADERS)
async def test_headers(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(ACCESS)
async def test_headers_that_decide_about_access(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(FRAMING)
async def test_the_length_of_a_body(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(CONTENT)
async def test_the_content_of_a_body(case: Case) -> None:
    async with scene() as now:
        await now.run(case)


@each(BEHIND)
async def test_data_behind_the_upgrade(case: Case) -> None:
    async with scene() as now:
        await now.run(Case(upgrade() + case.packets[0], case.answer, case.stays))


LINGERS = {
    "no request": NO_REQUESTS["a Redis command"],
    "a request without host": HEADERS["no host"],
    "a large head": HEADERS["a large head in one packet"],
    "a publish": ACCESS["a long key"],
    "a foreign publish": ACCESS["an origin of null"],
    "two lengths": FRAMING["two lengths"],
    "a body that is too large": CONTENT["a message that is too large"],
    "an idle connection": Case(get(b"/health/live"), status(200)),
    "a refused upgrade": UPGRADES["version 8"],
    "a foreign upgrade": ACCESS["a websocket from two origins"],
    "a bad frame": Case(upgrade() + FRAMES["opcode 3"].packets[0], FRAMES["opcode 3"].answer),
    "a close": Case(upgrade() + FRAMES["two closes"].packets[0], FRAMES["two closes"].answer),
    "a group that takes nothing": Case(upgrade("/ws/a") + frame(1, b"may I?"), closed(1008)),
    "a group that can be none": Case(upgrade("/ws/*"), closed(1008)),
}


@each(LINGERS)
async def test_who_keeps_the_connection_open_when_it_is_over(case: Case) -> None:
    async with scene() as now:
        await now.run(case, lingers=True)


@each(FRAMES)
async def test_frames(case: Case) -> None:
    async with scene() as now:
        async with now.attacker() as attacker:
            await attacker.upgrade()
            await attacker.send(*case.packets)
            await attacker.until(case.answer)
            if not case.stays:
                await attacker.until_end()
        await now.aftermath()


PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
async def test_targets(part: int) -> None:
    """Of a request, and of a handshake. Several in one test: each is answered at once, and ended as all others are."""
    async with scene() as now:
        for target in TARGETS[part::PARTS]:
            for packet in (get(target), _upgrade_at(target)):
                async with now.attacker() as attacker:
                    await attacker.send(packet)
                    await attacker.until(rb"\AHTTP/1\.1 .*\r\n\r\n")
                assert re.match(status(101, 200, 400, 403, 404, 405), attacker.received, re.DOTALL), target[:100]
        await now.aftermath()


def _upgrade_at(target: bytes) -> bytes:
    return get(target).partition(b"\r\n")[0] + b"\r\n" + upgrade().partition(b"\r\n")[2]


QUERIES = {
    "ten thousand groups": b"&".join(b"group=g%d" % n for n in range(10_000)),
    "ten thousand times the same": b"&".join([b"group=g"] * 10_000),
    "a group of a megabyte": b"group=" + b"g" * 900_000,
    "ten thousand other fields": b"&".join([b"x=y"] * 10_000),
    "groups of percent signs": b"group=%&" * 10_000,
    "groups in bytes": b"group=%ff%fe&group=%00",
    "no more than separators": b"&" * 100_000 + b"=" * 100_000,
}


@pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in QUERIES.items()])
async def test_queries_as_large_as_an_operator_may_allow(query: bytes) -> None:
    same = query.startswith((b"group=g&", b"group=%&"))  # one sound name, again and again
    async with scene(hasty(max_header=MIB)) as now:
        await now.run(Case(upgrade("/ws?" + query.decode()), status(101) if same else closed(1008), stays=same))
        await now.run(Case(get(b"/groups?" + query), status(200)))


@pytest.mark.parametrize("behind", [b"", b"\xff" * 100, get(b"/health/live")])
async def test_a_host_that_is_not_ours_is_refused_alone(behind: bytes) -> None:
    async with scene() as now:
        now.served.host._config.server_names = ["localhost", "127.0.0.1"]
        await now.run(Case(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n" + behind, status(400)))
        await now.run(Case(b"GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n" + behind, status(404)))
