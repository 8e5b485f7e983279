"""The list of a group's members, against a server whose answers are read and come whenever they like."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.asking import Asking, ask, page

from triocast.client import Departure, Member, Members, Move, Presence, PresenceReset


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
