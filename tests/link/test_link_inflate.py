"""What a client compresses, by itself: read as another implementation means it, and bounded whatever comes."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.link.deflating import AGREED, CONTINUATION, KIB, MIB, compressed_frame, deflated, zeros
from tests.link.harness import BINARY, PING, TEXT, frame
from tests.memory import flat_memory
from triocast.link.deflate import INFLATE_PIECE, Inflate
from triocast.link.frames import FrameMeter


def _connections(limit: int) -> tuple[Connection, Connection]:
    """Return a client of wsproto's, and our end of the same connection."""
    theirs = PerMessageDeflate()
    theirs.finalize(AGREED.decode())
    return Connection(ConnectionType.CLIENT, [theirs]), Connection(ConnectionType.SERVER, [Inflate(limit)])


def _read(connection: Connection) -> list[str | bytes]:
    got: list[str | bytes] = []
    whole = True
    for event in connection.events():
        if isinstance(event, Message):
            got = [*got, event.data] if whole else [*got[:-1], got[-1] + event.data]
            whole = event.message_finished
        else:
            assert isinstance(event, Ping)
    return got


@given(
    st.lists(st.tuples(st.sampled_from([str, bytes]), st.lists(st.integers(0, 900), min_size=1, max_size=4))),
    st.integers(1, 2_000),
    st.randoms(use_true_random=False),
)
def test_whatever_another_implementation_compresses_is_read_back(
    wanted: list[tuple[type, list[int]]], cut: int, rng: random.Random
) -> None:
    client, server = _connections(4_000)
    sent: list[str | bytes] = []
    data = b""
    for kind, sizes in wanted:
        parts: list[Any] = ["".join(rng.choices("aé♥", k=size)) for size in sizes]
        parts = [part.encode() for part in parts] if kind is bytes else parts
        sent.append(kind().join(parts))
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            event: Event = (
                BytesMessage(part, message_finished=last) if kind is bytes else TextMessage(part, message_finished=last)
            )
            data += client.send(event) + client.send(Ping(b"\xc1\x00"))
    sizes = [len(each.encode() if isinstance(each, str) else each) for each in sent]
    if max(sizes, default=0) <= 4_000:
        for start in range(0, len(data), cut):
            server.receive_data(data[start : start + cut])
        assert _read(server) == sent
    else:
        server.receive_data(data)
        assert [event.code for event in server.events() if isinstance(event, CloseConnection)] == [1009]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_more_than_the_limit_of_themselves_nor_an_error(data: bytes, cut: int) -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(1000)])
    frames = compressed_frame(BINARY, data)
    size = 0
    for start in range(0, len(frames), cut):
        server.receive_data(frames[start : start + cut])
        events = list(server.events())
        size += sum(len(event.data) for event in events if isinstance(event, Message))
        assert size <= 1000
        if any(isinstance(event, CloseConnection) for event in events):
            return


def test_nothing_is_kept_for_a_client_between_its_messages() -> None:
    ends = [_connections(MIB)[1] for _ in range(50)]
    data = compressed_frame(BINARY, deflated(b"x" * 100_000))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for server in ends:
            server.receive_data(data)
            assert _read(server) == [b"x" * 100_000]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < len(ends) * 4 * KIB


def test_a_meter_says_whether_there_is_anything_to_inflate() -> None:
    meter = FrameMeter(1000)
    plain, begun = frame(TEXT, b"plain"), compressed_frame(TEXT, b"x" * 10, fin=False)
    said = []
    for data in (plain, begun, frame(PING), frame(CONTINUATION, b"y") + plain, plain, plain + begun[:8], begun[8:]):
        meter.feed(data)
        said.append(meter.compressed)
    assert said == [False, True, True, True, False, True, True]


def test_what_is_too_large_is_not_inflated_to_find_that_out() -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(10 * KIB)])
    bomb = compressed_frame(BINARY, zeros(8))
    with flat_memory(200 * KIB):
        server.receive_data(bomb)
        assert [event.code for event in server.events() if isinstance(event, CloseConnection)] == [1009]


def test_a_piece_becomes_little_more_than_a_thousand_times_as_much() -> None:
    server = Connection(ConnectionType.SERVER, [Inflate(1 << 40)])
    bomb = compressed_frame(BINARY, zeros(64))
    for start in range(0, len(bomb), INFLATE_PIECE):
        server.receive_data(bomb[start : start + INFLATE_PIECE])
        assert sum(len(event.data) for event in server.events() if isinstance(event, Message)) <= 1100 * INFLATE_PIECE
