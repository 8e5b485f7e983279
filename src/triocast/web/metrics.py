"""What monitoring asks: `GET /metrics`, for Prometheus and what reads its formats."""

from __future__ import annotations

from quart import Blueprint, Response, request

from triocast.extension import Triocast
from triocast.metrics import Metrics, Workers
from triocast.web.errors import answer_errors_with_json
from triocast.web.guard import guard


def metrics_routes(push: Triocast, name: str = "triocast_metrics", workers: Workers | None = None) -> Blueprint:
    """Return a blueprint that shows the metrics of `push`, or of all `workers`, to whoever may publish."""
    blueprint = Blueprint(name, __name__)
    metrics = Metrics(push.hub)
    answer_errors_with_json(blueprint)

    guard(blueprint, push.settings)

    @blueprint.get("/metrics")
    async def show() -> Response:
        page, content_type = await metrics.page(request.headers.get("Accept", ""), workers)
        return Response(page, headers={"Cache-Control": "no-store"}, content_type=content_type)

    return blueprint
