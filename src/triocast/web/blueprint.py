"""The blueprints put together: all that the server offers, for an application of one's own to mount."""

from __future__ import annotations

from quart import Blueprint

from triocast.extension import Triocast
from triocast.metrics import Workers
from triocast.web.batch import batch_routes
from triocast.web.events import events_routes
from triocast.web.groups import group_routes
from triocast.web.health import health_routes
from triocast.web.history import history_routes
from triocast.web.members import company_routes, member_routes
from triocast.web.metrics import metrics_routes
from triocast.web.publish import publish_routes
from triocast.web.socket import socket_routes


def routes(push: Triocast, name: str = "triocast", workers: Workers | None = None) -> Blueprint:
    """Return a blueprint with `/ws`, `/sse`, `/publish`, `/groups`, `/members`, `/metrics` and `/health` for the groups
    of `push`.

    `app.register_blueprint(routes(push), url_prefix="/push")` mounts it below a prefix. Bodies are bounded by the
    application: see `triocast.web.bound_bodies`. `workers` are the processes whose metrics `/metrics` shows, too.
    """
    blueprint = Blueprint(name, __name__)
    parts = (
        socket_routes,
        events_routes,
        publish_routes,
        batch_routes,
        group_routes,
        history_routes,
        member_routes,
        company_routes,
        health_routes,
    )
    for part in parts:
        blueprint.register_blueprint(part(push))
    blueprint.register_blueprint(metrics_routes(push, workers=workers))
    return blueprint
