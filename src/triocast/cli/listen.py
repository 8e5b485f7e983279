"""The command `listen`: messages go to standard output as they come, everything else to standard error.

Connecting and coming back are the client's affair.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

import click
import msgspec
import trio

from triocast.cli.publish import url_option
from triocast.client import Gap, Left, Listener, ListenerClosed, ListenerSettings, Lost, Received, open_listener
from triocast.client.frames import Item
from triocast.client.target import parse_url
from triocast.core.names import check_group_name
from triocast.core.positions import parse_since
from triocast.errors import TOO_BIG, InvalidPosition, TriocastError

MAX_LAST = 10**9 - 1  # what a server reads
_DEFAULT_MAX_MESSAGE = ListenerSettings().max_message


@click.command()
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, gaps included.")
@click.option(
    "--since",
    multiple=True,
    metavar="POSITION",
    help="Begin with what follows EPOCH:OFFSET, or 0 for the oldest message kept; one for each GROUP, in their order.",
)
@click.option(
    "--last", type=click.IntRange(1, MAX_LAST), metavar="N", help="Begin with the newest N messages of each GROUP."
)
@click.option("--sse", "by_events", is_flag=True, help="Listen by server-sent events, where no WebSocket passes.")
@click.option("--count", "-n", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.option("--no-reconnect", is_flag=True, help="End with exit code 1 when the connection is lost.")
@click.option(
    "--max-message",
    type=click.IntRange(min=1),
    default=_DEFAULT_MAX_MESSAGE,
    show_default=True,
    metavar="N",
    help="Largest message to take, in bytes; not below the server's own max_message.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing about the connection and what is missed.")
def listen(  # noqa: PLR0913 (an argument for each option)
    groups: Sequence[str],
    *,
    url: str,
    as_json: bool,
    since: Sequence[str],
    last: int | None,
    by_events: bool,
    count: int | None,
    no_reconnect: bool,
    max_message: int,
    quiet: bool,
) -> None:
    """Print the messages of every GROUP as they come, one a line.

    A lost connection is made anew after a short random wait, longer with every failure, and goes on where it was: what
    was published meanwhile comes too, once and in order. What the server no longer keeps, or what comes too fast
    for us, is missed: how much is said on standard error. If there is no server to begin with, or it says not to
    come back, the exit code is 1. At the end the positions are said with which --since goes on from there.

    \b
      triocast listen chat
      triocast listen chat news --json
      triocast listen chat --last 10
      triocast listen chat news --since f71eb2d3:41 --since 0
      triocast listen prices:eur --count 1 --quiet

    Text is printed as it is and binary messages byte for byte, each with a newline behind it; where newlines
    inside messages matter use --json, which has {"group", "offset", "data"}, with "b64data" (base64) instead
    for binary ones, and {"group", "gap": {"from", "to", "count", "reason"}} where messages are missing, with "epochs"
    (the one before and the one now) where the server's history began afresh, and {"group", "left": {"epoch", "offset"}}
    where the server takes us out of a group. To send something: triocast publish GROUP MESSAGE
    """
    target = parse_url(url)
    wanted = tuple(dict.fromkeys(check_group_name(group) for group in groups))
    _check_beginning(groups, since, last)

    def say(text: str) -> None:
        if not quiet:
            click.echo(f"triocast: {text}", err=True)

    def lost(loss: Lost) -> None:
        what = "still no connection" if loss.lasted is None else "connection lost"
        say(f"{what} ({loss.why}); back in {loss.delay:.1f} s")

    settings = replace(ListenerSettings(), max_message=max_message)
    connect = partial(
        open_listener,
        url,
        wanted,
        transport="sse" if by_events else "websocket",
        since=dict(zip(groups, since, strict=True)) if since else None,
        last=last,
        reconnect=not no_reconnect,
        on_lost=lost,
        settings=settings,
    )
    told = _Told(_json_line if as_json else _plain_line, say, count)
    end = trio.run(_run, connect, wanted, lambda: say(f"listening to {', '.join(wanted)} at {target}"), told)
    if isinstance(end, ListenerClosed) and end.close_code == TOO_BIG.code:
        raise click.ClickException(f"{end}; see --max-message")
    if end is not None:
        raise end
    if count is None:
        say("the server closed the connection")


def _check_beginning(groups: Sequence[str], since: Sequence[str], last: int | None) -> None:
    if since and last is not None:
        raise click.UsageError("--since and --last can't both be: one says where to go on, the other where to begin")
    if since and len(set(groups)) != len(groups):
        raise click.UsageError("with --since every GROUP is named once: each has one position")
    if since and len(since) != len(groups):
        each = "one --since for each GROUP, in their order (0: from the oldest message kept)"
        raise click.UsageError(f"{len(groups)} GROUP and {len(since)} --since: give {each}")
    try:
        for position in since:
            parse_since(position)
    except InvalidPosition as error:
        raise click.UsageError(f"--since: {error}") from None


Connect = Callable[[], AbstractAsyncContextManager[Listener]]


async def _run(
    connect: Connect, groups: Sequence[str], ready: Callable[[], object], told: _Told
) -> TriocastError | None:
    """Write what comes until there is enough; return why it ended before that, None for a normal end."""
    async with connect() as listener:
        ready()
        positions = listener.positions
        try:
            async for item in listener:
                told.write(item)
                positions = listener.positions  # only now: what Ctrl-C keeps from being written comes again
                if told.enough:
                    break
        except TriocastError as error:
            return error
        except OSError:  # nobody reads our output any more, and nobody wants to hear more
            positions = {}
            raise
        finally:
            told.position(groups, positions)
    return None


class _Told:
    """Standard output, and how many messages went there."""

    def __init__(self, line_of: Callable[[Item], bytes | None], say: Callable[[str], None], count: int | None) -> None:
        self._line_of = line_of
        self._say = say
        self._left = count

    @property
    def enough(self) -> bool:
        return self._left == 0

    def write(self, item: Item) -> None:
        """Write a line; what has none is said on standard error."""
        line = self._line_of(item)
        if line is not None:
            # Blocking, on purpose: whoever reads our output slowly slows us down, and TCP then the server.
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()
        elif isinstance(item, Gap):
            self._say(_gap_text(item))
        elif isinstance(item, Left):
            self._say(_left_text(item))
        if self._left is not None and isinstance(item, Received):
            self._left -= 1

    def position(self, groups: Sequence[str], positions: Mapping[str, str]) -> None:
        """Say how to go on from here, if that is known of all groups."""
        if all(group in positions for group in groups):
            since = " ".join(f"{group} --since {positions[group]}" for group in groups)
            self._say(f"to go on from here: triocast listen {since}")


def _left_text(left: Left) -> str:
    why = "" if left.code is None else f" ({left.code}{f': {left.reason}' if left.reason else ''})"
    return f"the server took us out of {left.group}, after {left.epoch}:{left.offset}{why}"


def _gap_text(gap: Gap) -> str:
    if gap.reason == "superseded":  # as where a stream begins with last values: nothing that still holds is missing
        return f"passed over {gap.count} of {gap.group}, {gap.first} to {gap.last}: newer ones of their keys follow"
    if gap.epochs is None:
        return f"missed {gap.count} of {gap.group}, {gap.first} to {gap.last} ({gap.reason})"
    before, now = gap.epochs
    known = f"; of the new one, {gap.first} to {gap.last} are missed" if gap.count else ""
    return f"the history of {gap.group} began afresh ({before}, now {now}): nobody knows what was missed{known}"


def _plain_line(item: Item) -> bytes | None:
    if not isinstance(item, Received):
        return None
    return item.data.encode() if isinstance(item.data, str) else item.data


def _json_line(item: Item) -> bytes:
    if isinstance(item, Gap):
        gap: dict[str, object] = {"from": item.first, "to": item.last, "count": item.count, "reason": item.reason}
        if item.epochs is not None:
            gap["epochs"] = item.epochs
        return msgspec.json.encode({"group": item.group, "gap": gap})
    if isinstance(item, Left):
        left: dict[str, object] = {"epoch": item.epoch, "offset": item.offset}
        if item.code is not None:
            left |= {"code": item.code, "reason": item.reason}
        return msgspec.json.encode({"group": item.group, "left": left})
    told: dict[str, object] = {"group": item.group, "offset": item.offset}
    if isinstance(item.data, bytes):
        told["b64data"] = item.data
    else:
        # On one line, otherwise as it was published: newlines as such are only ever between JSON's tokens.
        one_line = item.data.replace("\r", " ").replace("\n", " ")
        told["data"] = msgspec.Raw(one_line.encode()) if item.is_json else item.data
    return msgspec.json.encode(told)
