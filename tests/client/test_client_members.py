"""The list of a group's members: how it asks, and what it makes of answers and of what is told."""

from __future__ import annotations

import msgspec
import pytest
from tests.client.asking import ANN, BOB, EVE, ask, page

import triocast.client.members
from triocast.client import Departure, Left, Member, Members, Move, Presence, PresenceReset, Received


def test_it_asks_page_by_page_and_is_a_mapping_of_who_is_there() -> None:
    members = Members("a/b")
    members.apply(PresenceReset("a/b"))
    asking = ask(members)
    assert asking.path == "/members/a%2Fb?limit=1000"
    asking.answer(page(ANN, after="a+b", group="a/b"))
    assert asking.path == "/members/a%2Fb?limit=1000&after=a%2Bb"
    assert repr(members) == "<Members of a/b: 1, not all>"
    asking.answer(page(BOB, group="a/b"))
    assert asking.done
    assert [member.info["name"] for member in members.values()] == ["ann", "bob"]
    assert repr(members) == "<Members of a/b: 2>"


def test_what_is_told_while_it_asks_is_newer_than_the_answer() -> None:
    members = Members("chat")
    asking = ask(members)
    members.apply(Presence("chat", joined=(EVE,), left=(Departure(BOB.client, "left"),)))
    asking.answer(page(ANN, BOB))
    assert set(members) == {"a", "e"}


def test_who_comes_and_goes_at_once_does_not_stay() -> None:
    members = Members("chat")
    members.apply(Presence("chat", (ANN,), (Departure("a", "left"), Departure("e", "left")), (Move("b", EVE),)))
    assert list(members) == []


@pytest.mark.parametrize("item", [PresenceReset("chat"), Left("chat", "e", 1)])
def test_an_answer_that_was_asked_for_before_a_reset_counts_no_longer(item: PresenceReset | Left) -> None:
    members = Members("chat")
    asking = ask(members)
    members.apply(Presence("chat", joined=(EVE,)))
    members.apply(item)
    asking.answer(page(ANN))
    assert asking.done is False
    assert (dict(members), members.complete) == ({}, False)


def test_an_asking_that_is_overtaken_by_another_counts_no_longer() -> None:
    members = Members("chat")
    first, second = ask(members), ask(members)
    first.answer(page(ANN))
    assert first.done is False
    second.answer(page(BOB))
    assert (second.done, set(members)) == (True, {"b"})


def test_too_many_who_go_meanwhile_end_an_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triocast.client.members, "MAX_GONE", 3)
    members = Members("chat")
    for count in (3, 4):
        asking = ask(members)
        members.apply(Presence("chat", left=tuple(Departure(str(number), "left") for number in range(count))))
        asking.answer(page(ANN))
        assert asking.done is (count == 3)


def test_an_asking_that_fails_leaves_nothing_behind_and_may_be_repeated() -> None:
    members = Members("chat")
    for body, said in (("[]", "no answer about the members"), (page(ANN, group="b"), "the members of b, not of chat")):
        asking = ask(members)
        with pytest.raises(ValueError, match=said):
            asking.answer(body)
        assert members._gone is None
    asking = ask(members)
    asking.run.close()
    assert members._gone is None
    assert not members.complete


def test_what_says_nothing_of_the_group_is_passed_over() -> None:
    members = Members("chat")
    members.apply(Presence("chat", joined=(ANN,)))
    for item in (Received("x", "chat", 1), PresenceReset("b"), Left("b", "e", 1), Presence("b", joined=(BOB,))):
        members.apply(item)
    assert dict(members) == {"a": ANN}


def test_info_is_what_its_json_says_and_the_deepest_that_a_server_takes_can_be_read() -> None:
    assert Member("a").info is None
    assert Member("a", info_json="1.10").info == 1.1
    deepest = "[" * 512 + "]" * 512
    body = f'{{"group":"chat","members":[{{"client":"a","info":{deepest}}}]}}'
    members = Members("chat")
    ask(members).answer(body)
    assert msgspec.json.encode(members["a"].info).decode() == deepest


def test_an_answer_that_is_nested_too_deeply_is_none() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    with pytest.raises(ValueError, match="no answer about the members"):
        ask(Members("chat")).answer(f'{{"group":"chat","members":[],"more":{deep}}}')
