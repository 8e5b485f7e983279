"""A list of who is in a group, kept by what a listener is told and by what the server answers when it is asked.

It sends nothing itself: whoever keeps the list brings the means to ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from urllib.parse import quote

import msgspec

from triocast.client.frames import Item, Left
from triocast.client.presence import Member, MemberObject, Presence, PresenceReset, member_of

PAGE = 1000  # members in one answer: the most that a server gives
# Who may go while one asking is under way, until it is given up: some 10 MB of ids. Only a server that answers very
# slowly, for a group in which everybody leaves, comes near it.
MAX_GONE = 100_000

Get = Callable[[str], Awaitable[str | bytes]]
"""Asks the server for a path below its address, and returns the body of an answer that is 200."""


class Members(Mapping[str, Member]):
    """The members of one group, by the id of their connection.

    Give `apply` all that a listener with `presence=True` gives, and `ask` after every `PresenceReset`. While the
    connection is lost the list stays as it was; a reset follows once it is back. It is as large as the group.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self.complete = False  # whether all are known
        self._known: dict[str, Member] = {}
        self._gone: set[str] | None = None  # while we ask: who left, and may be in an answer that was read before

    def __repr__(self) -> str:
        return f"<Members of {self.group}: {len(self)}{'' if self.complete else ', not all'}>"

    def __getitem__(self, client: str) -> Member:
        return self._known[client]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def apply(self, item: Item) -> None:
        """Take note of what a listener gave; what says nothing of this group's members is passed over."""
        match item:
            case Presence(self.group):
                self._change(item)
            case PresenceReset(self.group) | Left(self.group):
                self._known.clear()
                self.complete, self._gone = False, None

    async def ask(self, get: Get) -> bool:
        """Ask for all members, page by page; return whether the list is complete then.

        It is not if a reset came meanwhile, or another asking began: what was asked for before no longer counts. What
        is applied while this waits is kept, so both may be done in one task, or each in its own. Raises what `get`
        raises, and `ValueError` for what is no answer; then, and if it is cancelled, ask again.
        """
        gone = self._gone = set[str]()
        after: str | None = ""
        try:
            while after is not None:
                page = _page_of(await get(_path(self.group, after)), self.group)
                if self._gone is not gone:
                    return False
                self._known |= {each.client: member_of(each) for each in page.members if each.client not in gone}
                after = page.next
            self.complete = True
        finally:
            if self._gone is gone:
                self._gone = None
        return True

    def _change(self, presence: Presence) -> None:
        for member in presence.joined:
            self._known[member.client] = member
        for move in presence.moved:
            self._remove(move.was)
            self._known[move.member.client] = move.member
        for departure in presence.left:  # last: somebody who came and went at once must not stay
            self._remove(departure.client)

    def _remove(self, client: str) -> None:
        self._known.pop(client, None)
        if self._gone is not None:
            self._gone.add(client)
            if len(self._gone) > MAX_GONE:
                self._gone = None


class _Page(msgspec.Struct):
    group: str
    members: list[MemberObject]
    next: str | None = None


def _path(group: str, after: str) -> str:
    path = f"/members/{quote(group, safe='')}?limit={PAGE}"
    return f"{path}&after={quote(after, safe='')}" if after else path


def _page_of(answer: str | bytes, group: str) -> _Page:
    try:
        page = msgspec.json.decode(answer, type=_Page)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"that is no answer about the members of a group: {error}") from error
    if page.group != group:
        raise ValueError(f"that is about the members of {page.group}, not of {group}")
    return page
