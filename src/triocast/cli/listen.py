"""The command `listen`: messages go to standard output as they come, everything else to standard error.

Connecting and coming back are the client's affair.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial

import click
import trio

from triocast.cli.publish import url_option
from triocast.client import Listener, ListenerClosed, ListenerSettings, Lost, Received, open_listener
from triocast.client.target import parse_url
from triocast.core.names import check_group_name
from triocast.errors import TOO_BIG, TriocastError

_DEFAULT_MAX_MESSAGE = ListenerSettings().max_message


@click.command()
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, which names its group.")
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
@click.option("--quiet", "-q", is_flag=True, help="Say nothing about the connection.")
def listen(  # noqa: PLR0913 (an argument for each option)
    groups: Sequence[str],
    *,
    url: str,
    as_json: bool,
    count: int | None,
    no_reconnect: bool,
    max_message: int,
    quiet: bool,
) -> None:
    """Print the messages of every GROUP as they come, one a line.

    A lost connection is made anew after a short random wait, longer with every failure; what was published
    meanwhile is missed. If there is no server to begin with, or it says not to come back, the exit code is 1.

    \b
      triocast listen chat
      triocast listen chat news --json
      triocast listen prices:eur --count 1 --quiet

    Text is printed as it is and binary messages byte for byte, each with a newline behind it; where newlines
    inside messages matter use --json, which has {"group", "data"}, or {"group", "b64data"} (base64) for
    binary ones. To send something: triocast publish GROUP MESSAGE
    """
    target = parse_url(url)
    wanted = tuple(dict.fromkeys(check_group_name(group) for group in groups))

    def say(text: str) -> None:
        if not quiet:
            click.echo(f"triocast: {text}", err=True)

    def lost(loss: Lost) -> None:
        what = "still no connection" if loss.lasted is None else "connection lost"
        say(f"{what} ({loss.why}); back in {loss.delay:.1f} s")

    settings = replace(ListenerSettings(), max_message=max_message)
    connect = partial(open_listener, url, reconnect=not no_reconnect, on_lost=lost, settings=settings)
    names = ", ".join(wanted)
    # Only a listener of one group knows the group of its messages.
    separate = [(group,) for group in wanted] if as_json else [wanted]
    write = partial(_write, render=_as_json if as_json else _as_bytes, count=count)
    end = trio.run(_run, [connect(part) for part in separate], lambda: say(f"listening to {names} at {target}"), write)
    if isinstance(end, ListenerClosed) and end.close_code == TOO_BIG.code:
        raise click.ClickException(f"{end}; see --max-message")
    if end is not None:
        raise end
    if count is None:
        say("the server closed the connection")


End = TriocastError | None


async def _run(
    listeners: Sequence[AbstractAsyncContextManager[Listener]],
    ready: Callable[[], object],
    write: Callable[[trio.MemoryReceiveChannel[Received | TriocastError]], Awaitable[End]],
) -> End:
    """Merge what the listeners receive into what `write` takes; return why it ended."""
    outgoing, incoming = trio.open_memory_channel[Received | TriocastError](0)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(listener) for listener in listeners]
        ready()
        async with trio.open_nursery() as nursery:
            async with outgoing:
                for listener in opened:
                    nursery.start_soon(_forward, listener, outgoing.clone())
            end = await write(incoming)
            nursery.cancel_scope.cancel()
    return end


async def _forward(listener: Listener, outgoing: trio.MemorySendChannel[Received | TriocastError]) -> None:
    async with outgoing:
        try:
            async for received in listener:
                await outgoing.send(received)
        except TriocastError as error:
            await outgoing.send(error)


async def _write(
    incoming: trio.MemoryReceiveChannel[Received | TriocastError],
    render: Callable[[Received], bytes],
    count: int | None,
) -> End:
    """Write messages until there are `count`, or no more, or one of the listeners failed."""
    written = 0
    async for item in incoming:
        if isinstance(item, TriocastError):
            return item
        # Blocking, on purpose: whoever reads our output slowly slows us down, and TCP then the server.
        sys.stdout.buffer.write(render(item) + b"\n")
        sys.stdout.buffer.flush()
        written += 1
        if written == count:
            break
    return None


def _as_bytes(received: Received) -> bytes:
    return received.data.encode() if isinstance(received.data, str) else received.data


def _as_json(received: Received) -> bytes:
    told = {"group": received.group}
    if isinstance(received.data, str):
        told["data"] = received.data
    else:
        told["b64data"] = base64.b64encode(received.data).decode()
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
