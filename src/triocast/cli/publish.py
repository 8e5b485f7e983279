"""The command `publish`: what to send comes from the command line or standard input, receipts go to standard output.

How a message travels is the publisher's affair.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import BinaryIO

import click

from triocast.cli.publisher import BINARY, JSON, TEXT, Elsewhere, Publisher, Receipt
from triocast.client.target import parse_url
from triocast.core.names import check_connection_id, check_group_name, check_idempotency_key
from triocast.core.positions import parse_since
from triocast.errors import MessageTooLarge, TriocastError

ELSEWHERE = 3  # the exit code when --expected is not where the group is
DEFAULT_URL = "http://127.0.0.1:8000"
# Read at most this much into memory for one message; servers accept far less unless told otherwise.
MAX_INPUT = 64 * 1024 * 1024

url_option = click.option(
    "--url",
    default=DEFAULT_URL,
    envvar="TRIOCAST_URL",
    show_envvar=True,
    show_default=True,
    metavar="URL",
    help="Where the server is: http://HOST:PORT, https://HOST:PORT or unix:PATH.",
)


@click.command(short_help="Publish a message, or every line of standard input.")
@click.argument("group")
@click.argument("message", required=False)
@url_option
@click.option(
    "--api-key",
    envvar="TRIOCAST_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="The server's key. The variable is safer: other users see command lines.",
)
@click.option("--json", "as_json", is_flag=True, help="Messages are JSON, not text.")
@click.option("--binary", metavar="FILE", help="Send this file ('-': all of standard input) as one binary message.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Publish once, however often this is run within 5 minutes; an answer that is lost is asked for again. "
    "Of several lines, the first has KEY:1, the second KEY:2.",
)
@click.option(
    "--exclude",
    metavar="ID",
    help="The connection that is told that the message was delivered, and not given it: the id that its client was "
    "told when it joined.",
)
@click.option(
    "--expected",
    metavar="EPOCH:OFFSET",
    help="Publish only if that is where the group is (0: before its first message). If not, the command says where "
    "it is, and its exit code is 3. For one message, not for lines.",
)
@click.option(
    "--output",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="How receipts are printed; auto is text on a terminal, JSON lines elsewhere.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print no receipts.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the server, each time.",
)
def publish(  # noqa: PLR0913 (an argument for each option)
    group: str,
    message: str | None,
    *,
    url: str,
    api_key: str | None,
    as_json: bool,
    binary: str | None,
    idempotency_key: str | None,
    exclude: str | None,
    expected: str | None,
    output: str,
    quiet: bool,
    timeout: float,
) -> None:
    """Publish MESSAGE to GROUP, or without MESSAGE every line of standard input.

    Each line is sent as it comes and before the next is read, all over one connection. The first that cannot
    be published ends the command with exit code 1 and is named by its number; those before it have been
    published.

    \b
      triocast publish chat 'hello world'
      triocast publish --json prices:eur '{"bid": 1.08}'
      tail -f app.log | triocast publish logs
      triocast publish camera --binary picture.jpg
      triocast publish orders 'order 7: paid' --idempotency-key order-7-paid
      triocast publish counter 42 --expected f71eb2d3:41

    To see what arrives: triocast listen GROUP. Without this command: curl -d hello URL/publish/GROUP
    """
    if binary is not None and (message is not None or as_json):
        raise click.UsageError("--binary goes neither with MESSAGE nor with --json")
    if expected is not None and message is None and binary is None:
        raise click.UsageError("--expected goes with one message: after the first line the group is elsewhere")
    check_group_name(group)
    options = _options(idempotency_key, exclude, expected)
    tell = _teller("quiet" if quiet else output)
    content_type = BINARY if binary is not None else JSON if as_json else TEXT
    with closing(Publisher(parse_url(url), api_key, timeout)) as publisher:
        for number, data in _messages(message, binary):
            try:
                tell(publisher.publish(group, data, content_type, _options_of(options, number)))
            except Elsewhere as error:
                raise _Elsewhere(str(error)) from error
            except TriocastError as error:
                if number is None:
                    raise
                raise click.ClickException(f"line {number}: {error}") from error


class _Elsewhere(click.ClickException):
    """The group is not where it was expected, which scripts want to tell from all else."""

    exit_code = ELSEWHERE


def _options(idempotency_key: str | None, exclude: str | None, expected: str | None) -> dict[str, str]:
    """Return what was given, as the server wants it. Raises what says what is wrong with it."""
    options: dict[str, str] = {}
    if idempotency_key is not None:
        options["idempotency_key"] = check_idempotency_key(idempotency_key)
    if exclude is not None:
        options["exclude"] = check_connection_id(exclude)
    if expected is not None:
        options["expected"] = parse_since(expected).text
    return options


def _options_of(options: dict[str, str], number: int | None) -> dict[str, str]:
    """Return the options of a message, or of a line, whose key is the same when the same input is sent again."""
    if number is None or "idempotency_key" not in options:
        return options
    return {**options, "idempotency_key": f"{options['idempotency_key']}:{number}"}


def _messages(message: str | None, binary: str | None) -> Iterator[tuple[int | None, bytes]]:
    """Yield what is to be sent, with the number of its line if it is one."""
    if message is not None:
        # What the shell handed over, byte for byte; the server says so if it is not UTF-8.
        yield None, message.encode(errors="surrogateescape")
    elif binary is not None:
        yield None, _whole(binary)
    else:
        if sys.stdin.isatty():
            click.echo("triocast: a message a line; Ctrl-D ends", err=True)
        yield from _lines(sys.stdin.buffer)


def _whole(name: str) -> bytes:
    if name == "-":
        return _bounded(sys.stdin.buffer.read(MAX_INPUT + 1))
    try:
        with open(name, "rb") as file:
            return _bounded(file.read(MAX_INPUT + 1))
    except OSError as error:
        raise click.UsageError(f"cannot read {name}: {(error.strerror or 'unknown error').lower()}") from error


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MAX_INPUT + 1):
        number += 1
        try:
            yield number, _bounded(line.removesuffix(b"\n"))
        except MessageTooLarge as error:
            raise click.ClickException(f"line {number}: {error}") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_INPUT:
        raise MessageTooLarge(f"more than {MAX_INPUT // 1024**2} MiB in one message")
    return data


def _teller(output: str) -> Callable[[Receipt], None]:
    """Return what prints a receipt, flushed at once: whoever reads it may wait for it."""
    if output == "quiet":
        return lambda _receipt: None
    as_text = output == "text" or (output == "auto" and sys.stdout.isatty())
    render = _as_text if as_text else _as_json
    return lambda receipt: print(render(receipt), flush=True)


def _as_text(receipt: Receipt) -> str:
    plural = "" if receipt.subscribers == 1 else "s"
    return (
        f"sent {'before ' if receipt.repeated else ''}to {receipt.group} at offset {receipt.offset}: "
        f"{receipt.subscribers} subscriber{plural}, {receipt.behind} behind"
    )


def _as_json(receipt: Receipt) -> str:
    told = {name: value for name, value in asdict(receipt).items() if value is not False}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))
