"""What orchestrators ask: `/health/live`, whether the process answers, and `/health/ready`, whether to send clients."""

from __future__ import annotations

from quart import Blueprint, Response

from triocast.extension import Triocast
from triocast.problems import answer
from triocast.web.errors import answer_errors_with_json
from triocast.web.publish import fresh_json


def health_routes(push: Triocast, name: str = "triocast_health") -> Blueprint:
    """Return a blueprint that tells the state of `push` to anybody; it needs no key."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)

    @blueprint.get("/health/live")
    async def live() -> Response:
        return fresh_json({"status": "live"})

    @blueprint.get("/health/ready")
    async def ready() -> Response:
        if push.hub.roster.draining:
            return answer(503, "shutting_down", "the server is shutting down", {"Retry-After": "1"})
        if not push.hub.running:
            return answer(503, "not_running", "the server is not running yet, or no more", {"Retry-After": "1"})
        if push.hub.engine.why:
            # Anybody may ask, and need not learn the addresses of servers.
            text = "the engine can't be reached, or not every group listens to it again yet; the log and /metrics tell"
            return answer(503, "unavailable", text, {"Retry-After": "1"})
        return fresh_json({"status": "ready"})

    return blueprint
