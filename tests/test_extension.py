"""The library as an application uses it, in memory: `Triocast(app)`, `connect`, `add`, `discard`, `send`."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import trio
import trio.testing
from quart import websocket
from quart_trio import QuartTrio

import triocast
from triocast import (
    Draft,
    IdempotencyConflict,
    InvalidGroupName,
    InvalidIdempotencyKey,
    InvalidMessage,
    MessageTooLarge,
    NotRunning,
    Receipt,
    Settings,
    Triocast,
)
from triocast.testing import Client, Closed, Refused, simulate


def make_app(settings: Settings | None = None) -> tuple[QuartTrio, Triocast]:
    app = QuartTrio(__name__)
    push = Triocast(app, settings, harden=False)

    @app.websocket("/ws/<group>")
    async def ws(group: str) -> None:
        async with push.connect(group, headers={"X-Hello": "there"}) as connection:
            await push.group(group).add(connection)
            await push.group(group).add(connection)
            async for message in connection:
                if message == "crash":
                    raise ValueError("a bug in a handler")
                if message == "leave":
                    await push.group(group).discard(connection)
                    await push.group(group).discard(connection)
                if message == "close":
                    await connection.close(4321, "because")
                await push.group(group).send(message)

    @app.websocket("/forgetful")
    async def forgetful() -> None:
        async with push.connect("g"):
            await trio.sleep_forever()

    @app.websocket("/plain")
    async def plain() -> None:
        while True:
            await websocket.send(await websocket.receive())

    return app, push


async def test_every_member_of_a_group_gets_what_is_sent_and_others_do_not() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        first, second = await world.connect("/ws/a"), await world.connect("/ws/a")
        other = await world.connect("/ws/b")
        assert (b"x-hello", b"there") in first.accepted_headers
        receipt = await push.group("a").send("hello")
        assert (receipt.offset, receipt.subscribers, receipt.behind) == (1, 2, 0)
        await push.group("b").send(b"\x00")
        assert [await first.receive(), await second.receive()] == ["hello", "hello"]
        assert await other.receive() == b"\x00"


async def test_a_group_for_one_person_is_as_easy_as_one_for_all() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        people = [await world.connect(f"/ws/user:{number}") for number in range(50)]
        receipts = [await push.group(f"user:{number}").send({"you": number}) for number in range(50)]
        assert {receipt.subscribers for receipt in receipts} == {1}
        assert [await person.receive() for person in people] == [f'{{"you":{number}}}' for number in range(50)]


async def test_frames_of_both_kinds_arrive_as_they_are_empty_ones_included() -> None:
    app, _ = make_app()
    async with simulate(app) as world:
        client = await world.connect("/ws/a")
        for data in ("text", b"binary", "", b""):
            await client.send(data)
            assert await client.receive() == data


async def test_a_handler_that_sends_in_a_loop_is_no_faster_than_its_clients() -> None:
    app, push = make_app()
    received: list[str | bytes] = []

    async def read_on(client: Client) -> None:
        while True:
            received.append(await client.receive())

    async with simulate(app) as world, trio.open_nursery() as readers:
        readers.start_soon(read_on, await world.connect("/ws/a"))
        for number in range(3 * push.settings.max_lag):
            await push.group("a").send(str(number))
        await trio.testing.wait_all_tasks_blocked()
        readers.cancel_scope.cancel()
        assert received == [str(number) for number in range(3 * push.settings.max_lag)]


async def test_a_discarded_member_gets_nothing_more() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        client = await world.connect("/ws/a")
        await client.send("leave")
        await trio.testing.wait_all_tasks_blocked()
        assert (await push.group("a").info()).subscribers == 0
        assert (await push.group("a").send("x")).subscribers == 0


async def test_a_crash_in_a_handler_closes_its_client_with_1011_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, push = make_app()
    async with simulate(app) as world:
        client, bystander = await world.connect("/ws/a"), await world.connect("/ws/a")
        await client.send("crash")
        closed = await client.wait_closed()
        assert closed.code == 1011
        assert "bug" not in closed.reason
        assert (await push.group("a").send("still here")).subscribers == 1
        assert await bystander.receive() == "still here"
    crashes = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(crashes) == 1
    assert crashes[0].exc_info is not None
    assert "a bug in a handler" in str(crashes[0].exc_info[1])


async def test_close_gives_the_client_code_and_reason() -> None:
    app, _ = make_app()
    async with simulate(app) as world:
        client = await world.connect("/ws/a")
        await client.send("close")
        assert await client.wait_closed() == Closed(4321, "because")


async def test_a_client_that_goes_is_gone_from_its_groups_at_once() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        for path in ("/ws/g", "/forgetful"):
            client = await world.connect(path)
            assert push.hub.connections == 1
            await client.close()
            await trio.testing.wait_all_tasks_blocked()
            assert (push.hub.connections, push.hub.groups) == (0, 0)


async def test_sending_from_a_thread_and_from_a_background_task() -> None:
    app, push = make_app()

    def in_a_thread() -> Receipt:
        return trio.from_thread.run(push.group("a").send, "from a thread")

    async def in_the_background() -> None:
        await push.group("a").send("from the background")

    async with simulate(app) as world:
        client = await world.connect("/ws/a")
        receipt = await trio.to_thread.run_sync(in_a_thread)
        assert receipt.subscribers == 1
        app.add_background_task(in_the_background)
        assert [await client.receive(), await client.receive()] == ["from a thread", "from the background"]


async def test_what_cannot_be_sent_is_refused() -> None:
    app, push = make_app(Settings(max_message=10, max_lag_bytes=1000))
    async with simulate(app):
        with pytest.raises(MessageTooLarge):
            await push.group("a").send("x" * 11)
        with pytest.raises(InvalidMessage):
            await push.group("a").send(object())
        with pytest.raises(InvalidGroupName):
            push.group("a b")


async def test_without_a_running_application_the_error_says_what_to_do() -> None:
    _, push = make_app()
    with pytest.raises(NotRunning, match="test_app"):
        await push.group("a").send("x")


async def test_an_application_can_be_started_again() -> None:
    app, push = make_app()
    for _ in range(2):
        async with simulate(app) as world:
            client = await world.connect("/ws/a")
            await push.group("a").send("again")
            assert await client.receive() == "again"
            await push.hub.roster.drain()
            assert (await client.wait_closed()).code == 1012
    assert not push.hub.running


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, "localhost", 101),
        ("http://localhost", "localhost", 101),
        ("http://localhost:8000", "localhost:8000", 101),
        ("https://example.com", "example.com", 101),
        ("https://allowed.example", "localhost", 101),
        ("http://evil.example", "localhost", 403),
        ("null", "localhost", 403),
        ("http://localhost:9000", "localhost:8000", 403),
    ],
)
async def test_pages_of_other_sites_are_refused(origin: str | None, host: str, status: int) -> None:
    app, _ = make_app(Settings(allowed_origins=("https://allowed.example",)))
    headers = [("Host", host)] + ([("Origin", origin)] if origin is not None else [])
    async with simulate(app) as world:
        if status == 101:
            await world.connect("/ws/a", headers)
        else:
            with pytest.raises(Refused) as caught:
                await world.connect("/ws/a", headers)
            assert caught.value.status == status
            assert b'"foreign_origin"' in caught.value.body


async def test_too_many_connections_are_refused_with_503() -> None:
    app, _ = make_app(Settings(max_connections=2))
    async with simulate(app) as world:
        kept = [await world.connect("/ws/a") for _ in range(2)]
        with pytest.raises(Refused) as caught:
            await world.connect("/ws/a")
        assert caught.value.status == 503
        assert b"max_connections" in caught.value.body
        await kept[0].close()
        await trio.testing.wait_all_tasks_blocked()
        await world.connect("/ws/a")


async def test_whoever_is_accepted_is_a_member_already() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        for number in range(20):
            client = await world.connect(f"/ws/{number}")
            assert (await push.group(f"{number}").send("at once")).subscribers == 1
            assert await client.receive() == "at once"


async def test_groups_that_cannot_be_joined_refuse_the_handshake() -> None:
    app, push = make_app(Settings(max_groups_per_connection=2))

    @app.websocket("/many")
    async def many() -> None:
        async with push.connect("a", "b", "c"):
            pass

    async with simulate(app) as world:
        for path, code in (("/ws/a%20b", b"invalid_group_name"), ("/many", b"too_many_groups")):
            with pytest.raises(Refused) as caught:
                await world.connect(path)
            assert caught.value.status == 400
            assert code in caught.value.body
        assert (push.hub.connections, push.hub.groups) == (0, 0)


async def test_handlers_without_connect_are_served_by_quart_as_ever() -> None:
    app, _ = make_app()
    async with simulate(app) as world:
        async with world.http.websocket("/plain") as connection:
            await connection.send("echo")
            assert await connection.receive() == "echo"


async def test_connecting_twice_in_one_handler_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    app, push = make_app()

    @app.websocket("/twice")
    async def twice() -> None:
        async with push.connect(), push.connect():
            pass

    async with simulate(app) as world:
        client = await world.connect("/twice")
        assert (await client.wait_closed()).code == 1011
    assert "call connect() once" in caplog.text


async def test_an_application_that_was_not_attached_says_so(caplog: pytest.LogCaptureFixture) -> None:
    _, push = make_app()
    stranger = QuartTrio("stranger")

    @stranger.websocket("/ws")
    async def ws() -> None:
        async with push.connect():
            pass

    async with simulate(stranger) as world:
        with pytest.raises(Refused) as caught:
            await world.connect("/ws")
        assert caught.value.status == 500
    assert "pass it to Triocast(app) or init_app(app)" in caplog.text


def test_an_application_has_one_triocast() -> None:
    app, push = make_app()
    assert app.extensions["triocast"] is push
    with pytest.raises(RuntimeError, match="already"):
        Triocast(app)


async def test_handshakes_beyond_the_limit_wait_for_their_turn() -> None:
    app = QuartTrio(__name__)
    push = Triocast(app, Settings(max_handshakes=2), harden=False)
    deciding: list[trio.Event] = []

    @app.websocket("/ws")
    async def ws() -> None:
        deciding.append(trio.Event())
        await deciding[-1].wait()
        async with push.connect():
            await trio.sleep_forever()

    async with simulate(app) as world, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(world.connect, "/ws")
        await trio.testing.wait_all_tasks_blocked()
        assert len(deciding) == 2
        deciding[0].set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(deciding) == 3
        assert push.hub.connections == 1
        for _ in range(5):
            for event in deciding:
                event.set()
            await trio.testing.wait_all_tasks_blocked()
        assert push.hub.connections == 5


def test_the_public_names_are_these() -> None:
    public = {name for name in vars(triocast) if not name.startswith("_")}
    modules = {name for name in public if isinstance(getattr(triocast, name), type(triocast))}
    assert public - modules == {
        *("Close", "Connection", "ConnectionEnded", "Draft", "EngineError", "EngineUnavailable", "Gap", "GapReason"),
        *("GroupHandle",),
        *(
            "GroupInfo",
            "GroupSettings",
            "History",
            "IdempotencyConflict",
            "InvalidClose",
            "InvalidGroupName",
            "InvalidIdempotencyKey",
            "InvalidIdentity",
            "InvalidKey",
            "InvalidMessage",
            "InvalidPosition",
            "Happening",
            "Join",
            "Kind",
        ),
        *("Message", "MessageTooLarge"),
        *(
            "NotRunning",
            "Member",
            "Members",
            "Overloaded",
            "Policy",
            "PresenceOff",
            "Reason",
            "Position",
            "Receipt",
            "Settings",
            "SettingsError",
            "TooManyConnections",
        ),
        *("InvalidConnectionId", "TooManyGroups", "TooManyKeys", "Triocast", "TriocastError", "UnexpectedPosition"),
        "UnknownOutcome",
    }


async def test_a_message_with_an_idempotency_key_is_sent_once() -> None:
    app, push = make_app()
    async with simulate(app) as world:
        client = await world.connect("/ws/a")
        group = push.group("a")
        first = await group.send("hello", idempotency_key="k")
        assert not first.repeated
        for repeat in ("hello", Draft.of("hello"), Draft.of("hello", idempotency_key="k")):
            assert await group.send(repeat, idempotency_key="k") == replace(first, repeated=True)
        assert (await group.send(Draft.of("hello", idempotency_key="k"))).repeated
        assert not (await group.send(Draft.of("hello", idempotency_key="k"), idempotency_key="other")).repeated
        with pytest.raises(IdempotencyConflict):
            await group.send("hello", key="EUR", idempotency_key="k")
        assert (await group.send("end")).offset == 3
        assert [await client.receive() for _ in range(3)] == ["hello", "hello", "end"]


@pytest.mark.parametrize("message", ["text", b"bytes", {"a": 1}, Draft.of("draft")])
async def test_an_idempotency_key_that_is_none_is_refused(message: object) -> None:
    app, push = make_app()
    async with simulate(app):
        with pytest.raises(InvalidIdempotencyKey):
            await push.group("a").send(message, idempotency_key="")
        assert (await push.group("a").info()).offset == 0
