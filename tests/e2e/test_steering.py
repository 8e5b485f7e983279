"""Parting with clients of other workers, as an operator does: real processes, their own Valkey, and plain HTTP."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
import trio
import trio_websocket

from tests.e2e.crews import Crew, crew
from tests.e2e.processes import PATIENCE, websocket

Client = trio_websocket.WebSocketConnection


class Operator:
    """One connection that is kept open, so that one worker answers all that is asked on it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def delete(self, path: str) -> tuple[int, object]:
        await self._stream.send_all(f"DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        data = b""
        with trio.fail_after(PATIENCE):
            while b"\r\n\r\n" not in data:
                data += await self._stream.receive_some()
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(
                int(line[15:]) for line in head.decode().lower().split("\r\n") if line[:15] == "content-length:"
            )
            while len(body) < length:
                body += await self._stream.receive_some()
        return int(head.split()[1]), json.loads(body)


async def told(client: Client) -> dict[str, dict[str, object]]:
    with trio.fail_after(PATIENCE):
        frame: dict[str, dict[str, object]] = json.loads(await client.get_message())
        return frame


async def clients_of_both(server: Crew, stack: AsyncExitStack) -> list[tuple[Client, str]]:
    """Connect until both workers have a client; one of each, with the id of its connection."""
    found: dict[str, tuple[Client, str]] = {}
    while len(found) < 2:
        before = await server.metric("triocast_connections")
        client = await stack.enter_async_context(websocket(f"{server.ws}/ws?group=a&group=b&format=json"))
        after = await server.metric("triocast_connections")
        begun = [await told(client) for _ in range(2)]
        (worker,) = [label for label in after if after[label] > before[label]]
        found[worker] = client, str(begun[0]["joined"]["client"])
    return list(found.values())


async def test_what_is_asked_of_one_worker_is_done_by_the_one_that_has_the_client() -> None:
    async with crew(module="triocast.serve.worker") as server, AsyncExitStack() as stack:
        clients = await clients_of_both(server, stack)
        stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", server.port))
        operator = Operator(stream)
        for client, id_ in clients:
            path = f"/groups/a/members/{id_}?code=4003&reason=off%20topic"
            assert await operator.delete(path) == (200, {"removed": 1})
            left = (await told(client))["left"]
            assert (left["code"], left["reason"]) == (4003, "off topic")
            assert await operator.delete(path) == (200, {"removed": 0})
        for client, id_ in clients:
            assert await operator.delete(f"/connections/{id_}") == (200, {"closed": 1})
            with trio.fail_after(PATIENCE), pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
            assert caught.value.reason is not None
            assert (caught.value.reason.code, caught.value.reason.reason) == (3503, "disconnected by the server")
            assert await operator.delete(f"/connections/{id_}") == (200, {"closed": 0})
        assert await operator.delete("/users/ann/connections") == (200, {"closed": 0})
        assert await server.program.end() == 0
        assert "Traceback" not in server.program.output
