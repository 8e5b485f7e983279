"""Listeners whose network is cut off at random, and what they were given: python -m benchmarks.travellers PORT CLIENTS
MESSAGES SEED.

It says `connected` once all are, and a line of JSON once each was given the last message or has waited too long for it.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
from dataclasses import dataclass, field

import trio

from triocast.client import BackoffSettings, Gap, ListenerSettings, open_listener
from triocast.client.target import Target

UP, DOWN = 15.0, 2.0  # seconds: on the average, and each time
PATIENCE = 45.0  # seconds without any message, after which a client gives up
AT_ONCE = 16  # clients that connect at once, before anything is measured
NO_LINGER = struct.pack("ii", 1, 0)  # what has not been sent is thrown away, and the other side gets a reset


class Road:
    """A client's way to the server: open for a while, then cut, and open again `DOWN` later."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._open_at = 0.0
        self.cuts = 0

    async def dial(self, target: Target, _: object) -> trio.abc.Stream:
        """Connect once the way is open."""
        await trio.sleep_until(self._open_at)
        stream = await trio.open_tcp_stream(target.host, target.port)
        return CutOff(stream, self, trio.current_time() + self._random.expovariate(1 / UP))

    def cut(self) -> None:
        """Be closed from now on."""
        self.cuts += 1
        self._open_at = trio.current_time() + DOWN


class CutOff(trio.abc.Stream):
    """A stream that ends at a certain time, with whatever is on its way then."""

    def __init__(self, stream: trio.SocketStream, road: Road, until: float) -> None:
        self._stream = stream
        self._road = road
        self._until = until

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, until the time has come."""
        with trio.move_on_at(self._until):
            return await self._stream.receive_some(max_bytes)
        self._road.cut()
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        await trio.aclose_forcefully(self._stream)
        raise trio.BrokenResourceError("cut off")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as the socket does."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the socket does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


@dataclass
class Tally:
    """What all clients together were given."""

    clients: int
    messages: int
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("delivered", "twice", "gaps", "damaged", "cuts"), 0)
    )

    def take(self, item: object, wanted: int) -> int:
        """Count what a client was given that waits for the `wanted`th message; returns which it waits for next."""
        if isinstance(item, Gap):
            self.counts["gaps"] += 1
            return wanted
        number = int(item.data)  # type: ignore[attr-defined]
        if number < wanted:
            self.counts["twice"] += 1
            return wanted
        self.counts["damaged"] += number - wanted  # one that was left out, and no gap said so
        self.counts["delivered"] += 1
        return number + 1


async def travel(url: str, tally: Tally, seed: str, places: trio.Semaphore, *, task_status: trio.TaskStatus) -> None:
    """Listen until the last message has come. Returns early, with messages missing, after `PATIENCE` without any."""
    road = Road(seed)
    # Away for as long as the network is, and no longer: waiting longer with every loss is for servers that are down.
    settings = ListenerSettings(dial=road.dial, backoff=BackoffSettings(cap=1.0))
    await places.acquire()
    async with open_listener(url, ["jitter"], settings=settings) as listener:
        places.release()
        task_status.started()
        wanted = 0
        while wanted < tally.messages:
            item = None
            with trio.move_on_after(PATIENCE):
                item = await anext(listener)
            if item is None:
                break
            wanted = tally.take(item, wanted)
    tally.counts["cuts"] += road.cuts


async def main(port: int, clients: int, messages: int, seed: int) -> None:
    """Let all of them travel, and say what came of it."""
    tally = Tally(clients, messages)
    places = trio.Semaphore(AT_ONCE)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as joining:
            for number in range(clients):
                joining.start_soon(_start, nursery, f"http://127.0.0.1:{port}", tally, f"{seed} {number}", places)
        print("connected", flush=True)  # noqa: T201
    print(json.dumps({"clients": clients, **tally.counts}), flush=True)  # noqa: T201


async def _start(nursery: trio.Nursery, *words: object) -> None:
    await nursery.start(travel, *words)


if __name__ == "__main__":
    trio.run(main, *map(int, sys.argv[1:]))
