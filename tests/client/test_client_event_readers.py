"""What events say to a listener: read back from what a server writes, of one group and of several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast.client.attempt import Ended
from triocast.client.errors import UnexpectedFrame
from triocast.client.event_readers import EventReader, JsonEvents, PayloadEvents, read_close
from triocast.client.events import Event, EventStream
from triocast.client.frames import Delivered, Frame, Gap, Joined, Left, Received
from triocast.client.presence import MAX_PRESENCE, Departure, Member, Presence, PresenceReset
from triocast.core.message import Draft, GapReason, Message
from triocast.core.message import Gap as ToldGap
from triocast.core.wire import Joined as ToldJoined
from triocast.core.wire import Left as ToldLeft
from triocast.core.wire import Told
from triocast.core.wire.sse import EVENTS, close_event, id_line, position_of
from triocast.errors import RESTART

GROUPS = ("a", "b", "c")


def written(told: list[Told], form: str, groups: tuple[str, ...] = GROUPS) -> bytes:
    """Write as a server does for one client of these groups."""
    with_id, without = EVENTS[form]
    if len(groups) == 1:
        return b"".join(map(with_id.payload, told))
    known = dict.fromkeys(groups, "0")
    data = b""
    for each in told:
        known[each.group] = str(position_of(each))
        data += id_line(known.values()) + without.payload(each)
    return data


def read(reader: EventReader, data: bytes) -> list[Frame]:
    return [reader.read(event) for event in EventStream(10_000).feed(data)]


def began(group: str, offset: int = 0, epoch: str = "e") -> ToldJoined:
    return ToldJoined(group, epoch, offset, "latest", "client")


def message(data: object, offset: int, group: str = "a") -> Message:
    draft = Draft.of(data)
    return Message(group, "e", offset, draft.kind, draft.data)


STORY = [
    began("a", 3),
    message("text", 4),
    message({"a": 1}, 5),
    message(b"\x00\xff", 6),
    ToldGap("a", "e", 7, 9, GapReason.SLOW),
    message("", 10),
    ToldLeft("a", "e", 10),
]
REST = [Gap("a", 7, 9, "slow"), Received("", "a", 10), Left("a", "e", 10)]


@pytest.mark.parametrize("groups", [("a",), ("b", "a")])
def test_payloads_have_group_and_offset_by_their_ids_and_json_looks_like_text(groups: tuple[str, ...]) -> None:
    beginning = [began("b"), *STORY] if "b" in groups else STORY
    frames = read(PayloadEvents(groups), written(beginning, "raw", groups))
    assert frames[-7:] == [
        Joined("a", "e", 3),
        Received("text", "a", 4),
        Received('{"a":1}', "a", 5),
        Received(b"\x00\xff", "a", 6),
        *REST,
    ]


@pytest.mark.parametrize("groups", [("a",), ("b", "a")])
def test_objects_say_all_of_it_themselves(groups: tuple[str, ...]) -> None:
    assert read(JsonEvents(), written(STORY, "json", groups)) == [
        Joined("a", "e", 3),
        Received("text", "a", 4),
        Received('{"a":1}', "a", 5, is_json=True),
        Received(b"\x00\xff", "a", 6),
        *REST,
    ]


@given(st.lists(st.tuples(st.sampled_from(GROUPS), st.text() | st.binary())), st.randoms())
def test_of_several_groups_each_message_is_told_whose_it_is(published: list[tuple[str, str | bytes]], random) -> None:  # type: ignore[no-untyped-def]
    starts = {group: random.randrange(5) for group in GROUPS}  # the same offsets in several groups, too
    told: list[Told] = [began(group, start) for group, start in starts.items()]
    expected = []
    for group, data in published:
        starts[group] += 1
        told.append(message(data, starts[group], group))
        plain = data if isinstance(data, bytes) else data.replace("\r\n", "\n").replace("\r", "\n")
        expected.append(Received(plain, group, starts[group]))
    assert read(PayloadEvents(GROUPS), written(told, "raw"))[3:] == expected


def test_what_is_for_this_client_alone_is_of_no_group() -> None:
    stream = written([began("a"), message("x", 1)], "raw", ("a",)) + b"data: hello\n\n"
    assert read(PayloadEvents(("a",)), stream)[1:] == [Received("x", "a", 1), Received("hello", None)]
    stream = written([began("a"), message("x", 1)], "raw") + b"data: hello\n\n"
    assert read(PayloadEvents(GROUPS), stream)[1:] == [Received("x", "a", 1), Received("hello", None)]


def test_a_server_that_has_no_positions_is_listened_to_as_well() -> None:
    assert read(PayloadEvents(("a",)), b"data: x\n\nid: 7\ndata: y\n\n") == [Received("x", "a"), Received("y", "a")]
    stream = b"data: x\n\nid: 7\ndata: y\n\nid: e:1,e:2,e:3\ndata: z\n\n"
    assert read(PayloadEvents(GROUPS), stream) == [Received(data, None) for data in "xyz"]


NEWS = b"""event: presence
data: {"group":"a","presence":"reset"}

event: presence
data: {"group":"a","presence":{"joined":[{"client":"c","user":"ann"}],
data: "left":[{"client":"d","reason":"lost"}]}}

"""
TOLD_NEWS = [PresenceReset("a"), Presence("a", (Member("c", "ann"),), (Departure("d", "lost"),))]


@pytest.mark.parametrize("groups", [("a",), ("b", "a")])
@pytest.mark.parametrize(("form", "reader"), [("raw", PayloadEvents), ("json", JsonEvents)])
def test_members_are_told_without_an_id_and_offsets_that_are_not_for_us_with_one(
    groups: tuple[str, ...], form: str, reader: type[PayloadEvents | JsonEvents]
) -> None:
    def written_at(offset: int, what: bytes) -> bytes:
        known = [f"e:{offset}" if group == "a" else "e:0" for group in groups]
        return b"id: " + ",".join(known).encode() + b"\n" + what

    def text(offset: int) -> bytes:
        data = b"x" if form == "raw" else b'{"group":"a","offset":%d,"data":"x"}' % offset
        return written_at(offset, b"data: " + data + b"\n\n")

    begun = written_at(3, b'event: join\ndata: {"group":"a","joined":{"epoch":"e","offset":3}}\n\n')
    excluded = b'event: delivered\ndata: {"group":"a","delivered":{"epoch":"e","offset":5}}\n\n'
    stream = begun + text(4) + NEWS + written_at(5, excluded) + NEWS + text(6)
    assert read(PayloadEvents(groups) if reader is PayloadEvents else JsonEvents(), stream) == [
        Joined("a", "e", 3),
        Received("x", "a", 4),
        *TOLD_NEWS,
        Delivered("a", "e", 5),
        *TOLD_NEWS,
        Received("x", "a", 6),
    ]


def test_many_members_at_once_fit_where_they_are_asked_for() -> None:
    for make in (lambda room: PayloadEvents(("a",), room), JsonEvents):
        assert make(0).max_data(50) < MAX_PRESENCE == make(MAX_PRESENCE).max_data(50)
        assert make(MAX_PRESENCE).max_data(MAX_PRESENCE) > MAX_PRESENCE


def test_why_a_group_was_left_may_be_told() -> None:
    stream = (
        b'event: leave\ndata: {"group":"a","left":{"epoch":"e","offset":1,"code":4001,"reason":"out","by":"x"}}\n\n'
    )
    for reader in (JsonEvents(), PayloadEvents(("a",))):
        assert read(reader, stream) == [Left("a", "e", 1, 4001, "out")]


def test_what_we_do_not_know_is_passed_over() -> None:
    for reader in (JsonEvents(), PayloadEvents(GROUPS)):
        assert read(reader, b"event: news\ndata: of another server\n\n") == [None]


@pytest.mark.parametrize(
    ("reader", "stream", "said"),
    [
        (JsonEvents(), b"data: x\n\n", "what is no message in JSON"),
        (PayloadEvents(GROUPS), b"event: gap\ndata: x\n\n", "what is no message in JSON"),
        (PayloadEvents(GROUPS), b"event: binary\ndata: A\n\n", "not base64"),
        (PayloadEvents(GROUPS), "event: binary\ndata: Aü==\n\n".encode(), "not base64"),
        (
            PayloadEvents(GROUPS),
            written([began("a")], "raw") + b"id: e:0,e:1,e:1\ndata: x\n\n",
            "moved 2 groups on with one message",
        ),
    ],
)
def test_what_makes_no_sense_is_said(reader: EventReader, stream: bytes, said: str) -> None:
    with pytest.raises(UnexpectedFrame, match=said):
        read(reader, stream)


@pytest.mark.parametrize("reader", [JsonEvents(), PayloadEvents(GROUPS)])
@pytest.mark.parametrize("data", ["\0" * 50, "\r\n" * 25, b"\xff" * 50])
def test_a_message_of_the_largest_size_fits(reader: EventReader, data: str | bytes) -> None:
    form = "json" if isinstance(reader, JsonEvents) else "raw"
    (event,) = EventStream(10_000).feed(written([message(data, 2**53)], form))
    assert len(event.data.encode()) <= reader.max_data(50)


def test_a_close_says_why() -> None:
    (event,) = EventStream(1000).feed(close_event(RESTART))
    assert read_close(event) == Ended(1012, RESTART.reason)
    assert read_close(Event("message", event.data, "")) is None
    with pytest.raises(UnexpectedFrame, match="says nothing that we know"):
        read_close(Event("close", "[]", ""))
