"""The parts of the link that decide without a connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.link.harness import BINARY, CLOSE, PING, TEXT, frame
from triocast.link.frames import FrameMeter
from triocast.link.inbox import MAX_MESSAGES, MESSAGES_ROOM, BodyInbox, MessageInbox
from triocast.link.outflow import HIGH_WATER, Outflow, StreamStalled
from triocast.link.reading import READ_AHEAD, Backlog, has_left

CONTINUATION = 0
LIMIT = 300

sizes = st.one_of(st.integers(0, 130), st.integers(250, LIMIT + 2), st.integers(65_530, 65_540))
messages = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(sizes, min_size=1, max_size=3), st.booleans()))


def frames_of(wanted: Any) -> list[tuple[bytes, bool]]:
    """Return the frames of these messages, and which of them make their message too large."""
    frames = []
    for opcode, parts, ping in wanted:
        total = 0
        for index, size in enumerate(parts):
            total += size
            kind = opcode if index == 0 else CONTINUATION
            frames.append((frame(kind, b"x" * size, fin=index == len(parts) - 1), total > LIMIT))
            if ping:
                frames.append((frame(PING, b"p" * 125), False))
    return frames


@given(messages, st.lists(st.integers(1, 200), min_size=1))
def test_a_meter_finds_the_first_frame_that_is_too_much_however_the_bytes_are_cut(wanted: Any, cuts: list[int]) -> None:
    frames = frames_of(wanted)
    data = b"".join(one for one, _ in frames)
    starts = [sum(len(one) for one, _ in frames[:index]) for index in range(len(frames))]
    expected = next((start for start, (_, large) in zip(starts, frames, strict=True) if large), None)
    assert FrameMeter(LIMIT).feed(data) == expected

    meter, position, index = FrameMeter(LIMIT), 0, 0
    while position < len(data):
        piece = data[position : position + cuts[index % len(cuts)]]
        found = meter.feed(piece)
        if found is not None:
            assert expected is not None
            assert position + found >= expected
            assert position <= expected + 14  # no later than in the piece with the end of its header
            return
        position, index = position + len(piece), index + 1
    assert expected is None
    assert not meter.close_seen


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.integers(0, 100))), st.integers(1, 7))
def test_a_meter_sees_a_close_when_all_of_it_has_passed(before: list[tuple[int, int]], cut: int) -> None:
    data = b"".join(frame(opcode, b"\x88" * size) for opcode, size in before) + frame(CLOSE, b"\x03\xe8bye")
    meter = FrameMeter(10)
    for start in range(0, len(data), cut):
        assert not meter.close_seen
        meter.feed(data[start : start + cut])
    assert meter.close_seen


async def _put_texts(inbox: MessageInbox, texts: Sequence[str], done: list[str]) -> None:
    for text in texts:
        await inbox.put({"type": "websocket.receive", "text": text})
        done.append(text)


@pytest.mark.parametrize(
    ("texts", "held"),
    [
        ([str(number) for number in range(MAX_MESSAGES + 1)], MAX_MESSAGES),
        (["x" * MESSAGES_ROOM, "y"], 1),
        (["x" * (MESSAGES_ROOM - 1), "y", "z"], 2),
        (["x" * (2 * MESSAGES_ROOM), "y"], 1),
    ],
)
async def test_an_inbox_of_messages_holds_a_few_small_ones_or_one_of_any_size(texts: list[str], held: int) -> None:
    inbox = MessageInbox()
    done: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_put_texts, inbox, texts, done)
        await trio.testing.wait_all_tasks_blocked()
        assert len(done) == held
        assert [(await inbox.receive())["text"] for _ in texts] == texts


async def test_an_inbox_delivers_what_came_before_the_disconnect() -> None:
    inbox = MessageInbox()
    await inbox.put({"type": "websocket.connect"})
    await inbox.put({"type": "websocket.disconnect", "code": 1006})
    await inbox.put({"type": "websocket.receive", "text": "too late"})
    kinds = [(await inbox.receive())["type"] for _ in range(3)]
    assert kinds == ["websocket.connect", "websocket.disconnect", "websocket.disconnect"]


async def test_an_inbox_nobody_receives_from_keeps_nobody_waiting() -> None:
    inbox = MessageInbox()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(inbox.put, {"type": "websocket.receive", "text": "x"})
        await trio.testing.wait_all_tasks_blocked()
        await inbox.close()
    await inbox.put({"type": "websocket.receive", "text": "x"})


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    inbox = MessageInbox()
    with trio.move_on_after(0):
        await inbox.receive()
    await inbox.put({"type": "websocket.connect"})
    assert await inbox.receive() == {"type": "websocket.connect"}


@given(st.lists(st.binary(max_size=50)))
async def test_an_inbox_of_a_body_joins_its_pieces_and_tells_what_was_taken(pieces: list[bytes]) -> None:
    taken = 0

    async def tell(size: int) -> None:
        nonlocal taken
        taken += size

    inbox = BodyInbox(room=None, taken=tell)
    for piece in pieces:
        await inbox.put({"type": "http.request", "body": piece, "more_body": True})
    await inbox.put({"type": "http.request", "body": b"", "more_body": False})
    assert await inbox.receive() == {"type": "http.request", "body": b"".join(pieces), "more_body": False}
    assert taken == sum(map(len, pieces))


async def test_a_body_that_is_never_taken_is_told_as_taken_at_the_end() -> None:
    told = []

    async def tell(size: int) -> None:
        told.append(size)

    inbox = BodyInbox(room=None, taken=tell)
    await inbox.put({"type": "http.request", "body": b"12345", "more_body": True})
    await inbox.close()
    await inbox.put({"type": "http.request", "body": b"678", "more_body": True})
    assert told == [5, 3]


async def test_a_backlog_is_full_at_its_bound_and_ends_after_its_bytes() -> None:
    backlog = Backlog()
    backlog.add(bytes(READ_AHEAD - 1))
    assert not backlog.full
    backlog.add(b"x")
    assert backlog.full
    backlog.end()
    assert await backlog.take() == bytes(READ_AHEAD - 1) + b"x"
    await backlog.wait_room()
    assert await backlog.take() is None
    assert repr(backlog) == "<Backlog 0 bytes, over>"


def test_a_peer_that_has_left_is_seen_behind_its_unread_bytes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.send(b"unread")
        assert not has_left(ours.fileno())
        theirs.close()
        assert has_left(ours.fileno())


async def test_an_outflow_has_room_for_two_frames_and_waits_for_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outflow = Outflow(10, lambda: True)
    outflow.add(memoryview(bytes(HIGH_WATER)))

    async def take_slowly() -> None:
        for _ in range(5):
            await trio.sleep(9)
            outflow.take(1)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_slowly)
        with pytest.raises(StreamStalled):
            await outflow.wait_empty()
    assert trio.current_time() - began == pytest.approx(5 * 9 + 10)
    await outflow.wait_room()


async def test_an_outflow_whose_window_is_open_waits_for_the_connection_however_slow_that_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    windows = iter([False, False, True])
    outflow = Outflow(10, lambda: next(windows))
    outflow.add(memoryview(bytes(HIGH_WATER)))
    began = trio.current_time()
    with pytest.raises(StreamStalled):
        await outflow.wait_room()
    assert trio.current_time() - began == pytest.approx(30)


async def test_an_outflow_that_is_closed_lets_everybody_go(autojump_clock: trio.testing.MockClock) -> None:
    outflow = Outflow(10, lambda: True)
    outflow.add(memoryview(bytes(2 * HIGH_WATER)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outflow.wait_room)
        nursery.start_soon(outflow.drain)
        await trio.testing.wait_all_tasks_blocked()
        outflow.close()
    outflow.add(memoryview(b"too late"))
    assert outflow.complete
    assert repr(outflow) == "<Outflow 0 bytes, complete>"
