"""Runs the supervisor as `triocast serve` does, with other workers: python -m tests.e2e.supervised MODULE OPTION..."""

from __future__ import annotations

import os
import sys

from triocast import logs
from triocast.errors import TriocastError
from triocast.serve import supervise
from triocast.settings import Settings, load


def main(module: str, *options: str) -> int:
    given: dict[str, str | tuple[str, ...]] = dict(option.split("=", 1) for option in options)

    def settings() -> Settings:
        return load({**given, "bind": (given.get("bind", "127.0.0.1:0"),)}, os.environ).settings

    logs.configure(settings())
    try:
        return supervise(settings(), settings, [sys.executable, "-m", module])
    except TriocastError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
