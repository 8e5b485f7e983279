"""The served application, made of the parts that anybody can use."""

from __future__ import annotations

from quart import Response, request
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

WELCOME = """\
This is Triocast: server push, by groups.

Listen:   wscat -c {ws}/ws/sample
          curl -N {http}/sse/sample
Publish:  curl {key}-d 'hello' {http}/publish/sample
          http --form POST {http}/publish/sample {httpie_key}msg='hello'
Look:     curl {key}{http}/groups

Every client that is connected to /ws/sample gets the message.
"""


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

    @app.get("/")
    async def welcome() -> Response:
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(_welcome(settings), headers=headers, content_type="text/plain; charset=utf-8")

    return app


def _welcome(settings: Settings) -> str:
    """Say what this is and what to type, with the address that the client has used."""
    key = settings.api_key is not None
    address = f"{'s' if request.scheme == 'https' else ''}://{request.headers.get('Host', 'HOST')}"
    return WELCOME.format(
        ws=f"ws{address}",
        http=f"http{address}",
        key="-H 'X-API-Key: KEY' " if key else "",
        httpie_key="X-API-Key:KEY " if key else "",
    )
