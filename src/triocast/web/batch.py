"""Publishing several messages with one request: `POST /publish`, answered with a receipt or an error for each.

It reads no JSON; `items` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from quart import Blueprint, Response, request

from triocast.core.message import Draft
from triocast.errors import TriocastError
from triocast.extension import Triocast
from triocast.hub import Hub
from triocast.problems import described
from triocast.web.errors import answer_errors_with_json, tell_operator
from triocast.web.guard import guard
from triocast.web.items import Item, Problem, read_items
from triocast.web.payload import check_json
from triocast.web.publish import LONG_BODY, fresh_json, plain_type, quarts_body, shown

# Groups published to at once by one request: enough that a slow one, or the way to a Redis, holds up few others.
AT_ONCE = 32

Result = dict[str, Any]


def batch_routes(push: Triocast, name: str = "triocast_batch") -> Blueprint:
    """Return a blueprint that publishes many messages at once to the groups of `push`, for whoever may publish."""
    blueprint = Blueprint(name, __name__)
    answer_errors_with_json(blueprint)

    guard(blueprint, push.settings)

    @blueprint.post("/publish")
    async def publish_all() -> Response:
        check_json(plain_type(request.scope))
        body = await quarts_body()
        items = await trio.to_thread.run_sync(read_items, body) if len(body) > LONG_BODY else read_items(body)
        return fresh_json({"results": await publish_items(push.hub, items)})

    return blueprint


async def publish_items(hub: Hub, items: Sequence[Item]) -> Sequence[Result]:
    """Publish items and return what became of each, in their order.

    Those of one group follow each other; groups have no order between them, so that none waits for another. Cancelled,
    what was published stays so.
    """
    results: list[Result] = [{} for _ in items]
    by_group: dict[str, list[tuple[Draft, Result]]] = {}
    for item, result in zip(items, results, strict=True):
        if isinstance(item.what, Draft) and item.group is not None:
            by_group.setdefault(item.group, []).append((item.what, result))
        else:
            result.update(group=item.group, error=item.what)
    places = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for group, drafts in by_group.items():
            nursery.start_soon(_publish_in_order, hub, group, drafts, places)
    return results


async def _publish_in_order(
    hub: Hub, group: str, drafts: Sequence[tuple[Draft, Result]], places: trio.CapacityLimiter
) -> None:
    """Publish to one group. What follows a message that could not be published for the moment is not tried: each would
    wait as long again, and whoever sends them again wants them in their order."""
    failed: TriocastError | None = None
    async with places:
        for draft, result in drafts:
            if failed is not None:
                result.update(group=group, error=_not_tried(failed))
                continue
            try:
                result.update(shown(await hub.publish(group, draft)))
            except TriocastError as error:
                tell_operator(error)
                result.update(group=group, error=described(error))
                failed = error if error.temporary else None


def _not_tried(failed: TriocastError) -> Problem:
    message = f"not published: one before it, to the same group, failed for the moment ({failed.code})"
    return {"code": "not_tried", "message": f"{message}; send both again, in this order"}
