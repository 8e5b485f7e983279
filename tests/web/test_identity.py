"""Who a client is: as the application says when it connects it, or as the client says of itself in its address."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import msgspec
import pytest
import trio
from quart import Response
from quart_trio import QuartTrio

from tests.served import served
from tests.sse import connect
from triocast import Connection, InvalidIdentity, Settings, Triocast
from triocast.core.identity import MAX_INFO, Identity
from triocast.testing import Closed, simulate
from triocast.web import create_app
from triocast.web.socket import socket_routes

ANN = Identity(None, b'{"name":"Ann"}', claimed=True)
WRONG = ("", "[]", "null", "{", '{"a":"' + "x" * MAX_INFO + '"}')


def by_the_front() -> QuartTrio:
    return create_app(Settings(), harden=False)


def by_quart() -> QuartTrio:
    app = QuartTrio(__name__)
    app.register_blueprint(socket_routes(Triocast(app, harden=False)))
    return app


def the_one(app: QuartTrio) -> Connection:
    (connection,) = app.extensions["triocast"].hub.roster
    assert isinstance(connection, Connection)
    return connection


@pytest.mark.parametrize("make", [by_the_front, by_quart])
async def test_what_a_websocket_client_says_of_itself_is_a_claim(make: Callable[[], QuartTrio]) -> None:
    async with simulate(make()) as world:
        client = await world.connect("/ws/chat?info=" + quote('{ "name": "Ann" }'))
        connection = the_one(world.app)
        assert connection.identity == ANN
        assert (connection.user, connection.info) == (None, {"name": "Ann"})
        await client.close()


async def test_who_says_nothing_is_anonymous() -> None:
    async with simulate(by_the_front()) as world:
        await world.connect("/ws/chat")
        assert (the_one(world.app).user, the_one(world.app).info) == (None, None)


@pytest.mark.parametrize("query", [*(f"info={quote(each)}" for each in WRONG), "info=%7B%7D&info=%7B%7D"])
@pytest.mark.parametrize("make", [by_the_front, by_quart])
async def test_a_websocket_client_that_says_it_wrongly_is_closed_with_1008(
    make: Callable[[], QuartTrio], query: str
) -> None:
    async with simulate(make()) as world:
        client = await world.connect(f"/ws/chat?{query}")
        with trio.fail_after(5):
            closed = await client.wait_closed()
        assert closed == Closed(1008, "info is a JSON object of at most 1024 bytes, given once")


async def test_what_an_event_client_says_of_itself_is_a_claim() -> None:
    async with served() as app:
        listener = await connect(app.port)
        await (await listener.listen("/sse/chat?info=" + quote('{"name":"Ann"}'))).joined()
        (connection,) = app.hub.roster
        assert connection.identity == ANN
        listener.reset()


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_event_client_that_says_it_wrongly_is_refused(wrong: str) -> None:
    async with simulate(by_the_front()) as world:
        response = await world.http.get("/sse/chat?info=" + quote(wrong))
        assert response.status_code == 400
        assert "info is a JSON object" in (await response.get_json())["error"]["message"]


async def test_what_the_application_says_is_no_claim() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, harden=False)

    @app.websocket("/ws")
    async def ws() -> None:
        async with push.connect("chat", user="ann", info={"name": "Ann"}) as connection:
            await connection.send(msgspec.json.encode([connection.user, connection.info]).decode())

    @app.websocket("/claimed")
    async def claimed() -> None:
        async with push.connect("chat", user="ann", info='{"name":"Ann"}', claimed=True) as connection:
            await connection.send(str(connection.identity.claimed))

    @app.websocket("/wrong")
    async def wrong() -> None:
        with pytest.raises(InvalidIdentity):
            async with push.connect("chat", user="a\nb"):
                pass
        async with push.connect() as connection:
            await connection.send("refused")

    @app.get("/events")
    async def events() -> Response:
        with pytest.raises(InvalidIdentity):
            push.events("chat", info={"name": "x" * MAX_INFO})
        response = push.events("chat", user="ann", info={"name": "Ann"})
        assert response.listening.identity == Identity("ann", b'{"name":"Ann"}', claimed=False)
        return Response("checked")

    async with simulate(app) as world:
        for path, answer in (("/ws", '["ann",{"name":"Ann"}]'), ("/claimed", "True"), ("/wrong", "refused")):
            assert await (await world.connect(path)).receive() == answer
        assert await (await world.http.get("/events")).get_data() == b"checked"
