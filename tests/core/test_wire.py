"""The formats: what a client is given for each kind of message, for gaps, and for the beginning of a stream."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.client.frames import Gap as ReadGap
from triocast.client.frames import Received
from triocast.client.readers import JsonReader
from triocast.core.message import Draft, Gap, GapReason, Kind, Message
from triocast.core.wire import FORMATS, JSON, RAW, Delivered, Format, Joined, Left, Told
from triocast.core.wire.websocket import data_frame

GAP = Gap("a", "e", 3, 7, GapReason.SLOW)
JOINED = Joined("a", "e", 12, "latest", "client-id")
LEFT = Left("a", "e", 17)
DELIVERED = Delivered("a", "e", 6)


def message(kind: Kind, data: bytes, group: str = "a", offset: int = 1) -> Message:
    return Message(group, "e", offset, kind, data)


@pytest.mark.parametrize(
    ("form", "told", "payload"),
    [
        (RAW, message(Kind.TEXT, "grüße".encode()), "grüße"),
        (RAW, message(Kind.TEXT, b""), ""),
        (RAW, message(Kind.JSON, b'{"a": 1.10}'), '{"a": 1.10}'),
        (RAW, message(Kind.BINARY, b"\x00\xff"), b"\x00\xff"),
        (RAW, GAP, None),
        (RAW, JOINED, None),
        (RAW, LEFT, None),
        (RAW, DELIVERED, None),
        (JSON, message(Kind.TEXT, 'say "grüße"\n'.encode()), '{"group":"a","offset":1,"data":"say \\"grüße\\"\\n"}'),
        (JSON, message(Kind.TEXT, b""), '{"group":"a","offset":1,"data":""}'),
        (JSON, message(Kind.JSON, b'{"a": 1.10}'), '{"group":"a","offset":1,"data":{"a": 1.10}}'),
        (JSON, message(Kind.JSON, b"[1,\n2]\n"), '{"group":"a","offset":1,"data":[1,\n2]\n}'),
        (JSON, message(Kind.BINARY, b"\x00\xff"), '{"group":"a","offset":1,"b64data":"AP8="}'),
        (JSON, message(Kind.BINARY, b""), '{"group":"a","offset":1,"b64data":""}'),
        (JSON, message(Kind.TEXT, b"x", 'q"\\', 2**53), '{"group":"q\\"\\\\","offset":9007199254740992,"data":"x"}'),
        (JSON, GAP, '{"group":"a","gap":{"from":3,"to":7,"count":5,"reason":"slow"}}'),
        (
            JSON,
            JOINED,
            '{"group":"a","joined":{"epoch":"e","offset":12,"policy":"latest","client":"client-id"}}',
        ),
        (JSON, DELIVERED, '{"group":"a","delivered":{"epoch":"e","offset":6}}'),
        (JSON, LEFT, '{"group":"a","left":{"epoch":"e","offset":17}}'),
    ],
)
def test_what_a_client_is_given(form: Format, told: Told, payload: str | bytes | None) -> None:
    assert form.payload(told) == payload
    assert form.frame(told) == (b"" if payload is None else data_frame(payload))


def test_only_json_begins_a_stream_with_a_greeting() -> None:
    assert [(name, form.greets) for name, form in FORMATS.items()] == [("raw", False), ("json", True)]


def test_a_message_is_encoded_once_for_all() -> None:
    shared = message(Kind.TEXT, b"x")
    assert JSON.frame(shared) is JSON.frame(shared)
    assert JSON.payload(shared) is JSON.payload(shared)
    assert JSON.payload(shared) != RAW.payload(shared)


GROUPS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
SPACE = st.text(" \t\r\n")


def read_back(told: Told) -> object:
    payload = JSON.payload(told)
    assert isinstance(payload, str)
    json.loads(payload)  # whoever reads it need not be us
    return JsonReader().read(payload)


@given(GROUPS, st.integers(1), st.text() | st.binary())
def test_text_and_binary_are_read_back_as_they_were_sent(group: str, offset: int, data: str | bytes) -> None:
    draft = Draft.of(data)
    assert read_back(message(draft.kind, draft.data, group, offset)) == Received(data, group, offset)


@given(GROUPS, VALUES, SPACE, SPACE)
def test_json_is_read_back_as_it_was_written(group: str, value: object, before: str, after: str) -> None:
    written = json.dumps(value, indent=1)
    draft = Draft.parse(Kind.JSON, f"{before}{written}{after}".encode())
    received = read_back(message(draft.kind, draft.data, group))
    assert isinstance(received, Received)
    assert received.is_json
    assert isinstance(received.data, str)
    assert received.data.strip() == written
    assert received.value == msgspec.json.decode(written)


@given(st.text())
def test_a_json_string_is_text_to_its_reader(value: str) -> None:
    assert read_back(message(Kind.JSON, json.dumps(value).encode())) == Received(value, "a", 1)


@given(GROUPS, st.integers(1), st.integers(1), st.sampled_from(GapReason))
def test_gaps_are_read_back(group: str, first: int, count: int, reason: GapReason) -> None:
    gap = Gap(group, "e", first, first + count - 1, reason)
    assert read_back(gap) == ReadGap(group, gap.first, gap.last, reason.value)


@pytest.mark.parametrize("depth", [10, 100_000])
def test_json_of_any_depth_is_read_back(depth: int) -> None:
    data = "[" * depth + "]" * depth
    payload = JSON.payload(message(Kind.JSON, data.encode(), 'q"{'))
    assert isinstance(payload, str)
    assert JsonReader().read(payload) == Received(data, 'q"{', 1, is_json=True)
