"""The reader of event streams against the standard, in any cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.client import ListenerClosed
from triocast.client.events import LINE_ROOM, Event, EventStream
from triocast.core.message import Draft, Message
from triocast.core.wire.sse import COMMENT, SSE, close_event, retry_line
from triocast.errors import NORMAL


def read(data: bytes, max_data: int = 1000) -> list[Event]:
    return list(EventStream(max_data).feed(data))


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: one\n\ndata: two\n\n", [("message", "one", ""), ("message", "two", "")]),
        (b"data: a\ndata: b\ndata:\ndata\n\n", [("message", "a\nb\n\n", "")]),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),  # as the standard has it
        (b"data:test\n\ndata: test\n\ndata:  test\n\n", [("message", t, "") for t in ("test", "test", " test")]),
        (b"event: gap\r\ndata: x\r\n\r\n", [("gap", "x", "")]),
        (b"event: gap\rdata: x\r\r", [("gap", "x", "")]),
        (b"event: gap\n\ndata: x\n\n", [("message", "x", "")]),  # the name goes with the event that was none
        (b"event: a\nevent:\ndata: x\n\n", [("message", "x", "")]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "7")]),
        (b"id: 7\n\ndata: y\n\n", [("message", "y", "7")]),
        (b"id: 7\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "")]),
        (b"id: 7\nid: a\0b\ndata: x\n\n", [("message", "x", "7")]),
        (b": hello\n:\nretry: 1\nwhat: ever\nData: x\ndata: y:z\n\n", [("message", "y:z", "")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("message", "x", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\ndata: y\n\n", [("message", "y", "")]),
        (b"data: \xef\xbb\xbf\n\n", [("message", "\ufeff", "")]),
        ("data: grüße \0\n\n".encode(), [("message", "grüße \0", "")]),
        (b"data: \xff\xc3\n\n", [("message", "\ufffd\ufffd", "")]),
        (b"data: x\n", []),
        (b"data: x", []),
    ],
)
def test_it_reads_what_the_standard_says(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    assert read(stream) == [Event(*event) for event in events]


def by_the_letter(stream: bytes) -> list[Event]:
    """Read a whole stream, sentence by sentence of the standard."""
    events, name, last_id, data = [], "", "", ""
    text = stream.decode(errors="replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(Event(name or "message", data[:-1], last_id))
            name = data = ""
        elif field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return events


FIELDS = [b"data", b"event", b"id", b"retry", b"7", b":", b": ", b" ", b"data: x\n\n", b"id: 1\n"]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n"]
ODD = [b"\0", b"\xc3", b"\xbc", b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xbf"]
PIECES = st.sampled_from([*FIELDS, *ENDS, *ODD])


@given(st.lists(PIECES | st.binary(max_size=3), max_size=40).map(b"".join), st.data())
def test_any_bytes_in_any_cut_are_read_as_the_standard_says(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = EventStream(10_000)
    events = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for event in reader.feed(stream[start:end])
    ]
    assert events == by_the_letter(stream)


@given(st.lists(st.text() | st.binary()), st.integers(1, 50))
def test_what_a_server_writes_is_read_whatever_is_in_it(published: list[str | bytes], step: int) -> None:
    drafts = [Draft.of(data) for data in published]
    messages = [Message("a", "e", offset, draft.kind, draft.data) for offset, draft in enumerate(drafts)]
    stream = retry_line(1) + COMMENT.join(SSE.payload(message) for message in messages) + close_event(NORMAL)
    reader = EventStream(1000)
    events = [event for at in range(0, len(stream), step) for event in reader.feed(stream[at : at + step])]
    names = ["binary" if isinstance(data, bytes) else "message" for data in published]
    assert [event.name for event in events] == [*names, "close"]
    assert [event.id for event in events[:-1]] == [f"e:{offset}" for offset in range(len(published))]


def test_what_is_read_at_once_is_given_at_once() -> None:
    reader = EventStream(1000)
    assert list(reader.feed(b"data: x\r\r")) == [Event("message", "x", "")]  # without waiting for a LF
    assert list(reader.feed(b"\n")) == []
    assert list(reader.feed(b"data: y\n\n")) == [Event("message", "y", "")]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 101 + b"\n\n",
        b"data: x\n" * 51 + b"\n",
        b"data\n" * 102 + b"\n",
        b": " + b"x" * 2 * LINE_ROOM,
        b"id: " + b"x" * 2 * LINE_ROOM + b"\n",
    ],
)
def test_an_event_that_is_too_large_is_refused_before_it_is_whole(stream: bytes, step: int) -> None:
    reader = EventStream(100)
    with pytest.raises(ListenerClosed, match="an event of more than 100 bytes") as caught:
        for at in range(0, len(stream), step):
            assert list(reader.feed(stream[at : at + step])) == []
    assert caught.value.close_code == 1009


def test_what_came_before_what_is_too_large_is_given() -> None:
    events = EventStream(100).feed(b"data: one\n\ndata: " + b"x" * 101)
    assert next(events) == Event("message", "one", "")


def test_the_largest_events_are_taken_as_often_as_they_come() -> None:
    event = b"data: " + b"x" * 100 + b"\n\n"
    lines = b"data: x\n" * 50 + b"data\n\n"
    assert [len(each.data) for each in read((event + lines) * 3, 100)] == [100] * 6
