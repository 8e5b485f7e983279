"""The application for any ASGI server: `hypercorn -k trio triocast.asgi:app`.

Settings come from TRIOCAST_... variables and the file that TRIOCAST_CONFIG names; where to listen is the
server's affair.
"""

from __future__ import annotations

import os
import sys

from quart_trio import QuartTrio

from triocast.errors import SettingsError
from triocast.settings import load
from triocast.web.app import create_app


def _create() -> QuartTrio:
    try:
        return create_app(load(environ=os.environ).settings)
    except SettingsError as error:
        sys.stderr.writelines(f"triocast: {line}\n" for line in str(error).splitlines())
        sys.exit(2)


app = _create()
