"""The fan-out with uWebSockets through `socketify`: its own topics, `subscribe` and `publish`.

Its backpressure limit is raised: at the default of 64 KiB a client that has not taken so much yet misses messages.
"""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()
# socketify itself holds no reference while a body is on its way, and ends the process when the response is collected.
reading: set[Any] = set()


def publish(response: Any, _request: Any) -> None:
    """Send one text to everybody once its body is whole."""
    body = bytearray()

    def more(response: Any, data: bytes | None, last: bool) -> None:
        body.extend(data or b"")
        if last:
            app.publish("bench", body.decode(), OpCode.TEXT)
            response.end("ok")
            reading.discard(response)

    reading.add(response)
    response.on_aborted(reading.discard)
    response.on_data(more)


app.ws(
    "/ws/bench",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 2 << 20,
        "max_backpressure": 64 << 20,
        "idle_timeout": 0,
        "open": lambda websocket: websocket.subscribe("bench"),
    },
)
app.post("/publish/bench", publish)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
