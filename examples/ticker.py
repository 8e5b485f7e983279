"""A page that shows prices and headlines, by WebSocket: it comes back by itself, and misses nothing.

Run it:     python examples/ticker.py                     (with made-up prices)
      or    hypercorn -k trio examples/ticker.py:app      (without)
Look:       http://127.0.0.1:8000/                        (in as many windows as you like; unplug one for a while)
Publish:    curl -d 'it rains' http://127.0.0.1:8000/publish/headlines
"""

import itertools
import random
import signal
from pathlib import Path

import trio
from quart import Response
from quart_trio import QuartTrio

from triocast import Triocast
from triocast.web import routes

app = QuartTrio(__name__)
push = Triocast(app)
app.register_blueprint(routes(push))  # /ws for the page, /publish for you; the page needs nothing else
PAGE = (Path(__file__).parent / "ticker.html").read_text()


@app.get("/")
async def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


async def make_up_prices() -> None:
    prices = {"EUR/USD": 1.0921, "EUR/GBP": 0.8437, "EUR/JPY": 163.25}
    for name in itertools.cycle(prices):
        prices[name] = round(prices[name] * random.uniform(0.999, 1.001), 4)  # noqa: S311 - nobody should trust it
        await push.group("prices").send({"name": name, "price": prices[name]})
        await trio.sleep(1)


@app.before_serving
async def start() -> None:
    if __name__ == "__main__":
        app.add_background_task(make_up_prices)


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await app.run_task(port=8000, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main)
