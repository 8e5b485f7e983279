"""The served application, made of the parts that anybody can use."""

from __future__ import annotations

from quart_trio import QuartTrio

from triocast.engines import Engine
from triocast.extension import Triocast
from triocast.metrics import Workers
from triocast.settings import Settings
from triocast.web.blueprint import routes
from triocast.web.errors import answer_errors_with_json
from triocast.web.events import EventsFront
from triocast.web.forwarded import Forwarded
from triocast.web.front import PublishFront
from triocast.web.gate import Gate
from triocast.web.limits import bound_bodies
from triocast.web.poll import PollFront
from triocast.web.socket_front import SocketFront
from triocast.web.welcome import welcome_routes


def create_app(
    settings: Settings, *, engine: Engine | None = None, harden: bool = True, workers: Workers | None = None
) -> QuartTrio:
    """Return the application that `triocast serve` serves; its Triocast is `app.extensions["triocast"]`.

    `workers` are the other processes of the same server, where there are some.
    """
    app = QuartTrio("triocast.web", static_folder=None)
    app.url_map.merge_slashes = False  # a slash too many is a bad group name, not a redirect
    push = Triocast(app, settings, engine=engine, harden=harden)
    bound_bodies(app, settings)
    clients = EventsFront(PollFront(SocketFront(app.asgi_app, push), push), push)  # type: ignore[arg-type]
    fronts = PublishFront(clients, push)
    app.asgi_app = Forwarded(Gate(fronts), settings.trusted_proxies)  # type: ignore[method-assign, assignment]
    answer_errors_with_json(app)
    app.register_blueprint(routes(push, workers=workers))
    app.register_blueprint(welcome_routes(settings))
    return app
