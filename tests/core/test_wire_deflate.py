"""Compressed frames: one of each message for all, readable by itself, and only where it is smaller."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.core.message import Gap, GapReason, Kind, Message
from triocast.core.wire import JSON, RAW, Format, Joined, Left, compressed
from triocast.core.wire.deflate import LEAST, MOST, deflated_frame
from triocast.core.wire.websocket import data_frame

TEXT = b"one and the same and one and the same and " * 100
FORMATS = [RAW, JSON]


def message(data: bytes, kind: Kind = Kind.TEXT) -> Message:
    return Message("a", "e", 1, kind, data)


def read(frame: bytes) -> str | bytes:
    """Return what a compressed frame says to a client that has seen nothing before it."""
    first, short = frame[0], frame[1]
    assert first in (0xC1, 0xC2)
    head = {126: 4, 127: 10}.get(short, 2)
    size = short if head == 2 else int.from_bytes(frame[2:head])
    payload = frame[head:]
    assert len(payload) == size
    data = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
    assert len(payload) < len(data)
    return data.decode() if first == 0xC1 else data


@given(st.one_of(st.text(), st.binary()), st.integers(1, 3_000))
def test_what_is_compressed_is_read_back_and_is_smaller(piece: str | bytes, times: int) -> None:
    payload = piece * times
    frame = deflated_frame(payload)
    if frame is not None:
        assert read(frame) == payload
        assert len(frame) < len(data_frame(payload))


@pytest.mark.parametrize("size", [LEAST, 4_000, 65_536, 100_000, MOST])
def test_frames_of_every_length_are_whole(size: int) -> None:
    noise = random.Random(size).randbytes(size).hex()[:size]
    for payload in ("x" * size, b"x" * size, noise, noise.encode()):
        frame = deflated_frame(payload)
        assert frame is not None
        assert read(frame) == payload


@pytest.mark.parametrize("form", FORMATS, ids=repr)
def test_a_message_is_compressed_once_for_all(form: Format) -> None:
    shared = message(TEXT)
    twin = compressed(form)
    frame = twin.frame(shared)
    assert twin.frame(shared) is frame
    assert read(frame) == form.payload(shared) == twin.payload(shared)
    assert form.frame(shared) == data_frame(form.payload(shared) or "")
    shared.forget_encodings()
    assert twin.frame(shared) == frame
    assert twin.frame(shared) is not frame


@pytest.mark.parametrize("form", FORMATS, ids=repr)
def test_a_format_has_one_twin_which_is_another_format(form: Format) -> None:
    twin = compressed(form)
    assert twin is compressed(form)
    assert twin != form
    assert (twin.name, twin.greets) == (form.name, form.greets)


@pytest.mark.parametrize("form", FORMATS, ids=repr)
@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"x" * 40, random.Random(1).randbytes(5_000), b"x" * (MOST + 1)],
    ids=["empty", "one byte", "short", "noise", "large"],
)
def test_what_compression_is_not_worth_is_one_frame_for_all(form: Format, data: bytes) -> None:
    shared = message(data, Kind.BINARY)
    if form is JSON and len(data) == 5_000:
        assert read(compressed(form).frame(shared)) == form.payload(shared)  # base64 can be made smaller
    else:
        assert compressed(form).frame(shared) is form.frame(shared)


@pytest.mark.parametrize("form", FORMATS, ids=repr)
@pytest.mark.parametrize(
    "told",
    [
        Gap("a" * 200, "e", 3, 7, GapReason.SLOW),
        Joined("a" * 200, "e", 12, "latest", "client-id"),
        Left("a" * 200, "e", 1),
    ],
    ids=["gap", "joined", "left"],
)
def test_what_one_client_is_told_is_not_compressed(form: Format, told: Gap | Joined | Left) -> None:
    assert compressed(form).frame(told) == form.frame(told)
