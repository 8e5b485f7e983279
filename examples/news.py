"""A page that shows what is published, by server-sent events: nothing but a browser's own EventSource.

Run it:     hypercorn -k trio examples/news.py:app        (or: python examples/news.py)
Look:       http://127.0.0.1:8000/                        (in as many windows as you like; unplug one for a while)
Publish:    curl -d 'it rains' http://127.0.0.1:8000/publish
"""

import signal
from pathlib import Path

import trio
from quart import Response, request
from quart_trio import QuartTrio

from triocast import Triocast
from triocast.web import answer_errors_with_json

app = QuartTrio(__name__)
push = Triocast(app)
answer_errors_with_json(app)
PAGE = (Path(__file__).parent / "news.html").read_text()


@app.get("/")
async def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@app.get("/news")
async def news() -> Response:
    # Lasts until the reader leaves. One that comes back says by itself what it has, and goes on there; the page says it
    # in the address when its browser has given up, because a new EventSource begins with nothing.
    since = request.args.get("since")
    return push.events("news", since={"news": since} if since else None)


@app.post("/publish")
async def publish() -> str:
    await push.group("news").send(await request.get_data(as_text=True))
    return "Published!\n"


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await app.run_task(port=8000, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main)
