"""The command `triocast`: what can be said after it, and how its errors look.

Every command is a module of its own; nothing here connects or serves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import NoReturn

import click

from triocast.cli.listen import listen
from triocast.cli.publish import publish
from triocast.cli.server import config, serve
from triocast.client import CannotConnect, InvalidURL
from triocast.errors import InvalidGroupName, SettingsError, TriocastError

INTERRUPTED = 130  # what a shell says of a command that SIGINT ended
USAGE = 2
MISTAKES = (SettingsError, InvalidURL, InvalidGroupName)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("triocast"), prog_name="triocast")
@click.pass_context
def cli(context: click.Context) -> None:
    """Server push by groups: publish over HTTP, receive over WebSocket.

    In three terminals:

    \b
      triocast serve
      triocast listen chat
      triocast publish chat 'hello world'

    Each command explains itself: triocast serve --help. Clients need no Triocast: any WebSocket client
    connects to ws://127.0.0.1:8000/ws/chat, and any HTTP client posts to http://127.0.0.1:8000/publish/chat.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (serve, config, publish, listen):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `arguments` (those of this process) and exit.

    0 is success, 1 a failure on the way, 2 a mistake in the settings or the command line, 3 a group that is not where
    a publish expected it, 130 an interrupt.
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = cli.main(arguments, prog_name="triocast", standalone_mode=False)
    except BaseException as error:
        for leaf in _leaves(error):
            if (code := _exit_code(leaf)) is not None:
                return code
        raise
    return status if isinstance(status, int) else 0


def _exit_code(error: BaseException) -> int | None:
    """Tell the person what they need to know of `error`; return the exit code, None for a bug of ours."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return _leave_quietly()
    if isinstance(error, click.ClickException):
        return _say(_worded(error), error.exit_code)
    if isinstance(error, TriocastError):
        return _say(_worded(error), USAGE if isinstance(error, MISTAKES) else 1)
    return None


def _worded(error: click.ClickException | TriocastError) -> str:
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "triocast"
        return f"{error.format_message()}\n  See: {command} --help"
    if isinstance(error, CannotConnect) and error.nobody_there:
        return f'{error}. Is "triocast serve" running there?'
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def _say(message: str, code: int) -> int:
    for line in message.splitlines():
        # An indented line goes on with the one before.
        click.echo(line if line.startswith(" ") else f"triocast: {line}", err=True)
    return code


def _leave_quietly() -> int:
    """Whoever read our output has gone; what is left of it must not fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
