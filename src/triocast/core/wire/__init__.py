"""How messages are written for clients: formats without I/O, each encoding made once per message and shared by all."""

from triocast.core.wire.format import Format as Format
from triocast.core.wire.raw import RAW as RAW
