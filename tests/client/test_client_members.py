"""The list of a group's members, against a server whose answers are read and come whenever they like."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import triocast.client.members
from triocast.client import Departure, Left, Member, Members, Move, Presence, PresenceReset, Received

ANN, BOB, EVE = (Member(name[0], info_json=f'{{"name":"{name}"}}', claimed=True) for name in ("ann", "bob", "eve"))


def page(*members: Member, after: str | None = None, group: str = "chat") -> str:
    def fields(member: Member) -> dict[str, object]:
        info = msgspec.Raw((member.info_json or "null").encode())
        return {"client": member.client, "user": member.user, "info": info, "claimed": member.claimed}

    shown = {"group": group, "count": 9, "users": 0, "members": [fields(each) for each in members], "next": after}
    return msgspec.json.encode(shown).decode()


class Answer:
    """The wait for an answer to one request."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __await__(self) -> Generator[str, str, str]:
        return (yield self.path)


async def get(path: str) -> str:
    return await Answer(path)


@dataclass
class Asking:
    """`Members.ask`, run by hand: `path` is what it asks for, None once it has ended with `done`."""

    run: Coroutine[str, str, bool]
    path: str | None = None
    done: bool | None = None

    def __post_init__(self) -> None:
        self.answer(None)

    def answer(self, body: str | None) -> None:
        try:
            self.path = self.run.send(body)  # type: ignore[arg-type]
        except StopIteration as end:
            self.path, self.done = None, end.value


def ask(members: Members) -> Asking:
    return Asking(members.ask(get))


def of_pairs(text: str) -> Member:
    return Member(text, info_json=json.dumps({"name": text}), claimed=True)


@dataclass
class Group:
    """A group on a server: who is there, what is gathered, and what has been told and not yet come."""

    there: dict[str, Member] = field(default_factory=dict)
    changed: dict[str, Departure | Member | Move] = field(default_factory=dict)  # conflated by connection: the last one
    told: list[Presence | PresenceReset] = field(default_factory=list)
    number: int = 0

    def happen(self, kind: str, at: int) -> None:
        clients = list(self.there)
        match kind:
            case "join":
                self.number += 1
                self.come(f"c{self.number * 7 % 10}.{self.number}")
            case "leave" if clients:
                self.go(clients[at % len(clients)])
            case "again" if clients:  # taken out, and taken in again
                client = clients[at % len(clients)]
                self.go(client)
                self.come(client)
            case "move" if clients:
                was = clients[at % len(clients)]
                del self.there[was]
                self.number += 1
                member = of_pairs(f"d{self.number * 3 % 10}.{self.number}")
                self.there[member.client] = member
                self.tell()  # a move is told for itself here: what is gathered of both is the server's affair
                self.told.append(Presence("chat", moved=(Move(was, member),)))
            case "tell":
                self.tell()
            case "reset":
                self.changed.clear()
                self.told = [PresenceReset("chat")]  # in the place of all that did not come

    def come(self, client: str) -> None:
        self.there[client] = self.changed[client] = of_pairs(client)

    def go(self, client: str) -> None:
        del self.there[client]
        self.changed[client] = Departure(client, "left")

    def tell(self) -> None:
        if self.changed:
            joined = tuple(each for each in self.changed.values() if isinstance(each, Member))
            left = tuple(each for each in self.changed.values() if isinstance(each, Departure))
            self.told.append(Presence("chat", joined, left))
            self.changed.clear()

    def read(self, path: str) -> str:
        query = parse_qs(urlsplit(path).query)
        after = query.get("after", [""])[0]
        clients = [client for client in sorted(self.there) if client > after]
        shown = clients[:2]
        return page(*(self.there[client] for client in shown), after=shown[-1] if len(clients) > 2 else None)


@dataclass
class Story:
    """A group, a list of its members, and one asking at a time, whose answer is read and comes when it likes."""

    group: Group = field(default_factory=Group)
    members: Members = field(default_factory=lambda: Members("chat"))
    asking: Asking | None = None
    body: str | None = None

    def happen(self, kind: str, at: int) -> None:
        wanted = self.asking.path if self.asking is not None else None
        match kind:
            case "come":
                self.come()
            case "one" if self.group.told:
                self.members.apply(self.group.told.pop(0))
            case "ask" if wanted is None:
                self.asking = ask(self.members)
            case "read" if wanted is not None and self.body is None:
                self.body = self.group.read(wanted)
            case "answer" if self.asking is not None and self.body is not None:
                self.asking.answer(self.body)
                self.body = None
            case _:
                self.group.happen(kind, at)

    def come(self) -> None:
        self.group.tell()
        while self.group.told:
            self.members.apply(self.group.told.pop(0))

    def end(self) -> None:
        """Let come all that is on its way, and ask anew if need be."""
        self.come()
        while (self.asking is not None and self.asking.path is not None) or not self.members.complete:
            for kind in ("ask", "read", "answer"):
                self.happen(kind, 0)


KINDS = ["join", "join", "leave", "again", "move", "tell", "reset", "one", "come", "come", "ask", "read", "answer"]


@settings(max_examples=400)  # the narrow cases are an asking, what is told meanwhile, and an answer, in their order
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), min_size=10, max_size=60))
def test_whenever_answers_are_read_and_come_the_list_is_right_in_the_end(events: list[tuple[str, int]]) -> None:
    story = Story()
    story.group.happen("reset", 0)
    for kind, at in events:
        story.happen(kind, at)
    story.end()
    assert dict(story.members) == story.group.there


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
