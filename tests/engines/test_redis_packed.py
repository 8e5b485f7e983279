from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocast import Draft, Kind, Message, Position
from triocast.core.names import check_group_name
from triocast.engines.redis.entries import Entry, arguments, digest, unpack, unpack_told
from triocast.engines.redis.keys import PARTITIONS, Keys, partition_of

PRINTABLE = "".join(sorted(set(map(chr, range(33, 127))) - set("/*&{}")))
NAMES = st.text(PRINTABLE, min_size=1, max_size=255)
EXCLUDED = st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
IDEMPOTENCY_KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def packed(draft: Draft, epoch: str = "e0", offset: int = 7) -> bytes:
    kind, data, length, key = arguments(draft)
    return b"%b %d 0123abcd %b 1700000000000 %d %b%b" % (epoch.encode(), offset, kind, length, key, data)


@given(st.sampled_from(Kind), st.binary(), st.none() | st.text(st.characters(exclude_categories=["Cs"])), EXCLUDED)
def test_a_message_comes_out_as_it_went_in_whatever_its_bytes(
    kind: Kind, data: bytes, key: str | None, exclude: str | None
) -> None:
    entry = unpack("g", packed(Draft(kind, data, key, exclude=exclude)))
    assert (entry.message.kind, entry.message.data, entry.message.key) == (kind, data, key)
    assert entry.message.exclude == exclude
    assert (entry.message.group, entry.message.position, entry.id) == ("g", Position("e0", 7), b"0123abcd")


def test_a_message_is_read_with_the_epoch_its_group_has_now() -> None:
    assert unpack("g", packed(Draft(Kind.TEXT, b"x")), "later").message.epoch == "later"


def test_a_channel_tells_messages_and_new_epochs() -> None:
    told = unpack_told("g", packed(Draft(Kind.TEXT, b"!x")))
    assert isinstance(told, Entry)
    assert isinstance(told.message, Message)
    assert unpack_told("g", b"!e1 12") == Position("e1", 12)


@given(*[st.builds(Draft, st.sampled_from(Kind), st.binary(max_size=9), st.none() | st.text("k 1", max_size=3))] * 2)
def test_two_messages_have_one_digest_if_they_are_the_same(one: Draft, other: Draft) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_a_digest_does_not_tell_whom_a_message_excludes_or_what_it_expects() -> None:
    draft = Draft(Kind.TEXT, b"x", "k")
    assert digest(replace(draft, exclude="t-1", expected=Position("e", 1))) == digest(draft)


def test_a_digest_tells_what_belongs_to_the_key_from_what_belongs_to_the_data() -> None:
    drafts = [
        Draft(Kind.TEXT, b"ab"),
        Draft(Kind.TEXT, b"b", "a"),
        Draft(Kind.TEXT, b"", "ab"),
        Draft(Kind.JSON, b"ab"),
    ]
    assert len({digest(draft) for draft in drafts}) == len(drafts)


@given(NAMES)
def test_every_name_of_a_group_has_its_partition_as_hash_tag_and_is_of_no_other_group(group: str) -> None:
    check_group_name(group)
    keys = Keys("my:app")
    names = keys.of(group)
    all_names = [names.meta, names.stream, names.values, names.order, names.census, names.channel]
    all_names += [keys.record(group, "k"), keys.records(names.partition), keys.processes(names.partition)]
    assert names.partition == partition_of(group) in range(PARTITIONS)
    tag = b"{%d}" % names.partition
    assert all(name.startswith(b"my:app:" + tag) and name.count(b"{") == 1 for name in all_names)
    assert len(set(all_names)) == len(all_names)
    assert keys.group_of(names.channel) == group


@given(NAMES, NAMES, IDEMPOTENCY_KEYS, IDEMPOTENCY_KEYS)
def test_no_two_idempotency_keys_share_a_record(one: str, other: str, key: str, other_key: str) -> None:
    keys = Keys()
    same = (one, key) == (other, other_key)
    assert (keys.record(one, key) == keys.record(other, other_key)) == same
    assert keys.record("a", f":{key}") != keys.record("a:", key)


def test_groups_are_spread_over_all_partitions() -> None:
    counts = [0] * PARTITIONS
    for number in range(128 * 100):
        counts[partition_of(f"room:{number}")] += 1
    assert min(counts) > 50


@pytest.mark.parametrize("prefix", ["a{b", "{a}", "}"])
def test_a_prefix_with_a_brace_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        Keys(prefix)


def test_every_printable_character_is_tried() -> None:
    assert set(string.ascii_letters + string.digits) < set(PRINTABLE)
