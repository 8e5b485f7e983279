"""The sample of the article that Triocast started from, on the library: whoever is connected gets what is published.

Run it:     hypercorn -k trio examples/sample.py:app      (or: python examples/sample.py)
Listen:     wscat -c ws://127.0.0.1:8000/ws               (in as many terminals as you like)
Publish:    http 'http://127.0.0.1:8000/sample/publish?msg=hello'
"""

import signal

import trio
from quart import request
from quart_trio import QuartTrio

from triocast import Triocast

app = QuartTrio(__name__)
push = Triocast(app)  # gives the application groups; they live and end with it


@app.websocket("/ws")
async def ws() -> None:
    # Joins the group, then accepts the client, unless a page of another site sent it. Leaving the block closes the
    # client and leaves every group; group("sample").add(connection) and .discard(connection) do it one by one.
    async with push.connect("sample") as connection:
        async for _ in connection:
            pass  # what the client says is nobody's business here; the loop ends when it goes


@app.get("/sample/publish")
async def publish() -> str:
    # Every member gets the message, in the order published. A slow one keeps neither us nor the others waiting.
    await push.group("sample").send(request.args.get("msg", "null"))
    return "Published!"


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await app.run_task(port=8000, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main)
