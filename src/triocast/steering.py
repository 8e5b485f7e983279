"""Parting with clients of this process: their connections are closed, or they are taken out of a group.

It asks no other process; the engine does.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from triocast.core.presence import Reason
from triocast.core.steering import Order
from triocast.roster import Client, Roster

CHUNK = 100  # clients parted with between two turns of the event loop


async def carry_out(roster: Roster, order: Order, age: float = 0.0) -> int:
    """Do what the order says and return of how many connections it was true.

    It holds for those that were there when it was given, `age` seconds ago: who has come back since may stay.
    """
    given = trio.current_time() - age
    count = 0
    for number, client in enumerate(meant(roster, order), 1):
        if client.since <= given:
            count += part_with(client, order)
        if number % CHUNK == 0:
            await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    return count


def meant(roster: Roster, order: Order) -> Iterable[Client]:
    """Return the clients here that an order names."""
    if order.user is not None:
        return roster.of_user(order.user)
    client = roster.find(order.client or "")
    return () if client is None else (client,)


def part_with(client: Client, order: Order) -> bool:
    """Carry out an order on one client; whether there was something to do."""
    if client.ended:
        return False
    if order.group is not None:
        return client.remove(order.group, order.close)
    client.end(order.close, Reason.REMOVED)
    return True
