"""Answers about the members of a group, and an asking for them that is run by hand."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import dataclass

import msgspec

from triocast.client import Member, Members

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
