"""The command `listen`: messages go to standard output as they come, everything else to standard error.

Connecting and coming back are the client's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

import click
import msgspec
import trio

from triocast.cli.people import People
from triocast.cli.publish import url_option
from triocast.cli.told import Told, json_line, plain_line
from triocast.client import Listener, ListenerClosed, ListenerSettings, Lost, open_listener
from triocast.client.presence import info_text
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
@click.option("--presence", is_flag=True, help="Tell who joins and leaves, too.")
@click.option("--info", metavar="JSON", help='What others are told of us: \'{"name": "Ann"}\'; up to 1,024 bytes.')
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
    presence: bool,
    info: str | None,
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
      triocast listen chat --presence --info '{"name": "Ann"}'

    Text is printed as it is and binary messages byte for byte, each with a newline behind it; where newlines
    inside messages matter use --json, which has {"group", "offset", "data"}, with "b64data" (base64) instead
    for binary ones, and {"group", "gap": {"from", "to", "count", "reason"}} where messages are missing, with "epochs"
    (the one before and the one now) where the server's history began afresh, and {"group", "left": {"epoch", "offset"}}
    where the server takes us out of a group ("code" and "reason" too, if it says why). To send something: triocast
    publish GROUP MESSAGE

    With --presence, who joins and leaves is said on standard error, also with --quiet; a name in quotes is what
    somebody calls themselves. With --json there are the server's objects instead: {"group", "presence": "reset"} where
    nobody is known (any more), and {"group", "presence": {"joined", "left", "moved"}}.
    """
    target = parse_url(url)
    wanted = tuple(dict.fromkeys(check_group_name(group) for group in groups))
    _check_beginning(groups, since, last)
    said_of_us = _read_info(info)

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
        presence=presence,
        info=said_of_us,
        reconnect=not no_reconnect,
        on_lost=lost,
        settings=settings,
    )
    told = Told(json_line if as_json else plain_line, say, People(named=len(wanted) > 1), count)
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


def _read_info(info: str | None) -> dict[str, object] | None:
    if info is None:
        return None
    try:
        read = msgspec.json.decode(info, type=dict[str, object])
        info_text(read)
    except (msgspec.DecodeError, RecursionError) as error:
        why = f"{info!r} is no JSON object ({error})"
        raise click.UsageError(f'--info: {why}; try \'{{"name": "Ann"}}\'') from None
    except ValueError as error:
        raise click.UsageError(f"--info: {error}") from None
    return read


Connect = Callable[[], AbstractAsyncContextManager[Listener]]


async def _run(
    connect: Connect, groups: Sequence[str], ready: Callable[[], object], told: Told
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
