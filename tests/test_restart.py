"""An application that is served, stopped and served again by the same process."""

from __future__ import annotations

import trio

from tests.link.harness import UPGRADE, Client
from triocast.link.host import open_host
from triocast.settings import Settings
from triocast.web import create_app


async def test_clients_are_told_of_every_stop_not_only_the_first() -> None:
    settings = Settings()
    app = create_app(settings)
    for _ in range(2):
        async with open_host(app, settings) as host, trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, host.serve, [listener])
            port = listener.socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                client = Client(stream)
                await client.send(UPGRADE.replace(b"GET / ", b"GET /ws/g ") + b"\r\n")
                await client.until(b"\r\n\r\n")
                await host.terminate()  # what Hypercorn does first; nobody calls our own drain here
                with trio.fail_after(10):
                    assert (await client.close())[0] == 1012
            nursery.cancel_scope.cancel()
