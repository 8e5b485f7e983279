"""Server-sent events: what a reader that keeps to the letter of the standard reads back is what was published."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sse import Event, Reader, unchunk
from triocast.client.frames import Received
from triocast.client.readers import JsonReader
from triocast.core.message import Draft, Gap, GapReason, Kind, Message
from triocast.core.wire import FORMATS, JSON, Delivered, Joined, Left, Told
from triocast.core.wire.sse import (
    COMMENT,
    EVENTS,
    SSE,
    SSE_JSON,
    SSE_JSON_MANY,
    SSE_MANY,
    close_event,
    data_event,
    id_line,
    retry_line,
)
from triocast.errors import Close

JOINED = Joined("a", "e", 12, "latest", "client-id")
LEFT = Left("a", "e", 17)


def message(kind: Kind, data: bytes, offset: int = 1) -> Message:
    return Message("a", "e", offset, kind, data)


@pytest.mark.parametrize(
    ("told", "written"),
    [
        (message(Kind.TEXT, "grüße".encode()), "id: e:1\ndata: grüße\n\n"),
        (message(Kind.TEXT, b""), "id: e:1\ndata: \n\n"),
        (
            message(Kind.TEXT, b" two\nlines\r\nor\rmore\n"),
            "id: e:1\ndata:  two\ndata: lines\ndata: or\ndata: more\ndata: \n\n",
        ),
        (message(Kind.JSON, b'{"a": 1.10}'), 'id: e:1\ndata: {"a": 1.10}\n\n'),
        (message(Kind.JSON, b"[1,\n2]"), "id: e:1\ndata: [1,\ndata: 2]\n\n"),
        (message(Kind.BINARY, b"\x00\xff", 7), "id: e:7\nevent: binary\ndata: AP8=\n\n"),
        (message(Kind.BINARY, b""), "id: e:1\nevent: binary\ndata: \n\n"),
        (
            Gap("a", "e", 3, 7, GapReason.SLOW),
            'id: e:7\nevent: gap\ndata: {"group":"a","gap":{"from":3,"to":7,"count":5,"reason":"slow"}}\n\n',
        ),
        (
            JOINED,
            f"id: e:12\nevent: join\ndata: {JSON.payload(JOINED)}\n\n",
        ),
        (
            Delivered("a", "e", 6),
            'id: e:6\nevent: delivered\ndata: {"group":"a","delivered":{"epoch":"e","offset":6}}\n\n',
        ),
        (LEFT, 'id: e:17\nevent: leave\ndata: {"group":"a","left":{"epoch":"e","offset":17}}\n\n'),
    ],
)
def test_what_a_client_is_given(told: Told, written: str) -> None:
    assert SSE.payload(told) == written.encode()
    without_id = written.partition("\n")[2]
    assert SSE_MANY.payload(told) == without_id.encode()
    for form, text in ((SSE, written), (SSE_MANY, without_id)):
        assert form.frame(told) == b"%x\r\n%b\r\n" % (len(text.encode()), text.encode())


@pytest.mark.parametrize(
    ("told", "written"),
    [
        (message(Kind.TEXT, b"two\r\nlines"), '{"group":"a","offset":1,"data":"two\\r\\nlines"}'),
        (message(Kind.JSON, b"[1.10,\r2]"), '{"group":"a","offset":1,"data":[1.10,\ndata: 2]}'),
        (message(Kind.BINARY, b"\x00\xff"), '{"group":"a","offset":1,"b64data":"AP8="}'),
    ],
)
def test_in_json_a_message_says_whose_it_is(told: Told, written: str) -> None:
    event = f"data: {written}\n\n".encode()
    assert SSE_JSON.payload(told) == b"id: e:1\n" + event
    assert SSE_JSON_MANY.payload(told) == event
    assert SSE_JSON_MANY.frame(told) == b"%x\r\n%b\r\n" % (len(event), event)


@pytest.mark.parametrize("told", [Gap("a", "e", 3, 7, GapReason.SLOW), JOINED, LEFT])
def test_what_is_no_message_is_the_same_in_json(told: Told) -> None:
    assert SSE_JSON.payload(told) == SSE.payload(told)
    assert SSE_JSON_MANY.payload(told) == SSE_MANY.payload(told)


def test_events_are_there_in_every_format() -> None:
    assert list(EVENTS) == list(FORMATS)


def test_a_message_is_encoded_once_for_all_clients_of_a_format() -> None:
    shared = message(Kind.TEXT, b"x")
    assert SSE.frame(shared) is SSE.frame(shared)
    assert SSE.payload(shared) is SSE.payload(shared)
    assert SSE_MANY.frame(shared) is SSE_MANY.frame(shared)
    assert SSE_JSON.frame(shared) is SSE_JSON.frame(shared)
    assert SSE_JSON_MANY.frame(shared) is SSE_JSON_MANY.frame(shared)


def test_what_is_no_event_is_passed_over() -> None:
    reader = Reader()
    assert reader.feed(retry_line(1.5) + COMMENT) == []
    assert reader.retry == 1500
    assert (reader.feed(id_line(["e:1", "f:2"]) + data_event(b"x")), reader.last_id) == (
        [Event("message", "x", "e:1,f:2")],
        "e:1,f:2",
    )


def test_a_close_leaves_the_position_as_it_is() -> None:
    reader = Reader()
    reader.feed(SSE.encode(message(Kind.TEXT, b"x")))
    (closed,) = reader.feed(close_event(Close(1012, "come\nback")))
    assert closed == Event("close", '{"code":1012,"reason":"come\\nback"}', "e:1")


TEXTS = st.text(st.sampled_from("\n\r :a\u2028\ufeff\x00é") | st.characters(exclude_categories=["Cs"]))
MESSAGES = st.lists(st.tuples(TEXTS | st.binary(max_size=20), st.integers(1, 2**63 - 1)), max_size=6)


@given(MESSAGES, st.integers(1, 9))
def test_what_is_read_back_is_what_was_published(published: list[tuple[str | bytes, int]], step: int) -> None:
    stream = b"".join(SSE.frame(message((draft := Draft.of(data)).kind, draft.data, at)) for data, at in published)
    plain = unchunk(stream)
    reader = Reader()
    events = [event for start in range(0, len(plain), step) for event in reader.feed(plain[start : start + step])]
    assert len(events) == len(published)
    for event, (data, at) in zip(events, published, strict=True):
        assert event.id == f"e:{at}"
        if isinstance(data, bytes):
            assert (event.name, b64decode(event.data, validate=True)) == ("binary", data)
        else:
            assert (event.name, event.data) == ("message", data.replace("\r\n", "\n").replace("\r", "\n"))


@given(st.recursive(st.none() | st.integers() | TEXTS, st.lists, max_leaves=8))
def test_json_is_the_same_value_to_its_reader(value: object) -> None:
    written = json.dumps(value, indent=1).replace("\n", "\r\n")
    draft = Draft.parse(Kind.JSON, written.encode())
    (event,) = Reader().feed(SSE.encode(message(draft.kind, draft.data)))
    assert json.loads(event.data) == value


@given(TEXTS)
def test_in_json_text_keeps_every_line_end(text: str) -> None:
    draft = Draft.of(text)
    (event,) = Reader().feed(SSE_JSON.encode(message(draft.kind, draft.data)))
    assert JsonReader().read(event.data) == Received(text, "a", 1)
