"""Bytes that nobody thought of: random ones, sound ones with random changes, and sound frames in a random order."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.attacker import KIB, Case, upgrade
from tests.hostile.heads import HEAD
from tests.hostile.scene import Scene, scene
from tests.link.harness import close_frame, frame

# The same examples in every run: a failure here is to be found when code changes, not when luck does. Several
# attackers an example, because what an example costs is its server.
BOUNDED = settings(
    max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
ATTACKERS = 6

noise = st.binary(max_size=300)
WORDS = rb"""GET POST / /ws/a /publish/a ?group= HTTP/1.1 HTTP/1.0 Host:x Content-Length:0 Content-Length:5
Connection:close Transfer-Encoding:chunked Upgrade:websocket Connection:Upgrade Sec-WebSocket-Version:13 0 5 : %
Expect:100-continue Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ=="""
words = st.lists(st.sampled_from([*WORDS.split(), b" ", b"\r\n", b"\r\n\r\n", b"\x00", b"\xff"]), max_size=40).map(
    b"".join
)

payloads = st.one_of(st.binary(max_size=140), st.text(max_size=60).map(str.encode), st.just(bytes(70 * KIB)))
frames = st.one_of(
    st.builds(frame, st.integers(0, 15), payloads, fin=st.booleans()),
    st.builds(frame, st.sampled_from([0, 1, 2, 9, 10]), payloads, fin=st.booleans()),
    st.builds(frame, st.sampled_from([0, 1, 2, 8, 9]), noise, announce=st.integers(0, 1 << 63)),
    st.builds(close_frame, st.integers(0, 65_535), st.text(max_size=30)),
    st.builds(lambda head, rest: bytes([head]) + rest, st.integers(0, 255), noise),
)
sequences = st.lists(frames, max_size=12).map(b"".join)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Return a sound conversation with some of its bytes changed, left out or put in."""
    data = bytearray(
        draw(st.sampled_from([HEAD + b"\r\n", upgrade(), upgrade() + frame(1, b"hello") + close_frame(1000)]))
    )
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def several(one: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.lists(one, min_size=1, max_size=ATTACKERS)


@BOUNDED
@given(several(st.one_of(noise, words)))
async def test_random_bytes(attacks: list[bytes]) -> None:
    async with scene() as now:
        await _attack(now, attacks)


@BOUNDED
@given(several(mutations()))
async def test_random_changes_of_a_sound_conversation(attacks: list[bytes]) -> None:
    async with scene() as now:
        await _attack(now, attacks)


@BOUNDED
@given(several(sequences))
async def test_random_frames_behind_a_sound_handshake(attacks: list[bytes]) -> None:
    async with scene() as now:
        for data in attacks:
            async with now.attacker() as attacker:
                await attacker.upgrade()
                await attacker.send(data)
        await now.aftermath()


@BOUNDED
@given(several(sequences))
async def test_random_frames_in_the_packet_of_the_handshake(attacks: list[bytes]) -> None:
    async with scene() as now:
        await _attack(now, [upgrade() + data for data in attacks])


async def _attack(now: Scene, attacks: list[bytes]) -> None:
    """Let all attackers have their say and leave, then one more stay until it is ended."""
    for data in attacks:
        async with now.attacker() as attacker:
            await attacker.send(data)
    await now.run(Case(b"".join(attacks)[: 64 * KIB] + b"\r\n\r\n", b"", stays=b"Upgrade" in b"".join(attacks)))
