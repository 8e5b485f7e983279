"""Ways in, what one connection holds, and what is said of a server before anything is lost on it."""

from __future__ import annotations

import logging
import random
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from valkey.exceptions import ResponseError

from tests.redis_engines import KEYS, PATIENCE, SHORT, engine_at, running
from tests.redis_servers import Server
from triocast import Draft, EngineUnavailable, Settings, UnknownOutcome
from triocast.core.recovery import Join
from triocast.engines import Audience
from triocast.engines.redis.advice import warnings_about
from triocast.engines.redis.caller import RedisRefused
from triocast.engines.redis.connection import Access, Reply, new_connection
from triocast.engines.redis.line import FIRST_WAIT, LONGEST_WAIT, STEADY, Backoff
from triocast.engines.redis.store import Head
from triocast.inbox import Inbox
from triocast.settings.redis_address import Place


async def test_a_unix_socket_and_a_database_lead_in(valkey: Server) -> None:
    engine = engine_at(f"unix://{valkey.path}?db=3&prefix=mine")
    async with running(engine):
        await engine.publish("g", Draft.of("x"))
    assert valkey.admin.info("keyspace")["db3"]["keys"] > 0
    assert valkey.admin.dbsize() == 0


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_a_message_greater_than_a_socket_takes_goes_whole_and_what_follows_behind_it(
    valkey: Server, way: str
) -> None:
    great = "x" * (12 * 1024 * 1024)  # more than the kernel holds for a socket, less than a stream lets go
    engine = engine_at(f"unix://{valkey.path}" if way == "unix" else valkey.port)
    async with running(engine):
        await engine.publish("g", Draft.of("the server has the script from here on"))
        async with trio.open_nursery() as nursery:
            for text in (great, "first", "second"):
                nursery.start_soon(engine.publish, "g", Draft.of(text))
                await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE):
            page = await engine.fetch("g", 1, 10)
            after = await engine.fetch("g", page.messages[-1].offset, 10)
    assert [len(each.data) for each in (*page.messages, *after.messages)] == [len(great), 5, 6]


async def test_a_user_and_a_password_lead_in_and_wrong_ones_are_named_but_not_shown(
    make_valkey: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_valkey()
    server.admin.execute_command("ACL SETUSER me on >right ~* &* +@all")
    server.admin.execute_command("ACL SETUSER default on nopass -@all +hello +auth")
    for login, said in (("me:wrongone@", "WRONGPASS"), ("", "NOPERM|refused")):
        engine = engine_at(f"redis://{login}127.0.0.1:{server.port}", SHORT)
        async with running(engine):
            with pytest.raises((EngineUnavailable, RedisRefused), match=said) as refused:
                await engine.publish("g", Draft.of("x"))
        assert "wrongone" not in str(refused.value) + caplog.text + repr(engine)
    engine = engine_at(f"redis://me:right@127.0.0.1:{server.port}")
    async with running(engine):
        assert (await engine.publish("g", Draft.of("x"))).position.offset == 1
    server.admin.close()


async def test_a_user_with_the_rights_that_the_documentation_names_can_do_everything(
    make_valkey: Callable[..., Server],
) -> None:
    page = Path(__file__, "../../../docs/scaling.md").resolve().read_text()
    [rights] = re.findall(r"`(~PREFIX:\* .+?)`", page)
    server = make_valkey()
    server.admin.execute_command("ACL SETUSER me on >right", *rights.replace("PREFIX", "mine").split())
    settings = Settings(join=Join.LAST)
    engine = engine_at(f"redis://me:right@127.0.0.1:{server.port}?prefix=mine", settings)
    async with running(engine), engine.subscribe("g", Inbox(10)) as start:
        draft = replace(Draft.of("x", key="k"), idempotency_key="once")
        for _ in range(2):
            assert (await engine.publish("g", draft)).position == replace(start, offset=1)
        for read in (engine.read, engine.fetch, engine.read_back, engine.last_values):
            assert len((await read("g", 2 if read == engine.read_back else 0, 10)).messages) == 1
        assert await engine.position("g") == replace(start, offset=1)
        await engine.store.report(KEYS.of("g").partition, "p", {"g": Audience(1, 0)})
        assert await engine.listed(None, 10) == ["g"]
        assert await engine.census(["g"]) == {"g": {"p": Audience(1, 0)}}
        assert (await engine.store.check("g", Head(start, b""))).same
    denied = {entry["object"] for entry in server.admin.acl_log()}
    assert denied <= {"config|get"}
    server.admin.close()


async def test_a_server_that_wants_a_password_says_so(make_valkey: Callable[..., Server]) -> None:
    server = make_valkey()
    server.admin.config_set("requirepass", "secret")
    engine = engine_at(server.port, SHORT)
    async with running(engine):
        assert "the server wants another user or password: NOAUTH" in engine.why
    engine = engine_at(f"redis://:secret@127.0.0.1:{server.port}")
    async with running(engine):
        assert engine.connected


async def test_tls_leads_in_where_the_certificate_is_trusted(valkey: Server, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def decrypt(client: trio.SSLStream[trio.SocketStream]) -> None:
        """Stand between a client and the server, which has no TLS of its own."""
        server = await trio.open_tcp_stream("127.0.0.1", valkey.port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, client, server)
            await pass_on(server, client)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, decrypt, 0, context, host="127.0.0.1", https_compatible=True)
        [listener] = await nursery.start(serve)
        port = listener.transport_listener.socket.getsockname()[1]
        engine = engine_at(f"rediss://127.0.0.1:{port}?cafile={tmp_path / 'ca'}")
        async with running(engine):
            assert (await engine.publish("g", Draft.of("x"))).position.offset == 1
        engine = engine_at(f"rediss://127.0.0.1:{port}", SHORT)
        async with running(engine):
            assert "certificate" in engine.why
        nursery.cancel_scope.cancel()


async def pass_on(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
    with suppress(trio.BrokenResourceError):  # who does not trust us goes in the middle of the handshake
        while data := await source.receive_some(65_536):
            await target.send_all(data)


async def test_what_a_server_can_t_do_now_was_not_done_and_the_error_says_what_to_do(
    make_valkey: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_valkey()
    engine = engine_at(server.port)
    async with running(engine):
        await engine.publish("g", Draft.of("x"))
        server.admin.config_set("maxmemory", 1)
        for _ in range(3):
            with pytest.raises(EngineUnavailable, match=r"OOM.*raise its maxmemory"):
                await engine.publish("g", Draft.of("y"))
        assert engine.connected  # no other process could do more
        server.admin.config_set("maxmemory", 0)
        assert (await engine.publish("g", Draft.of("z"))).position.offset == 2
    assert len([record for record in caplog.records if "refuses what it is asked (OOM)" in record.getMessage()]) == 1


async def test_a_busy_server_has_done_nothing(make_valkey: Callable[..., Server]) -> None:
    server = make_valkey("--busy-reply-threshold", "50")
    engine = engine_at(server.port)
    async with running(engine), trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, spin, server)
        with pytest.raises(EngineUnavailable, match="BUSY"):
            while True:
                await engine.publish("g", Draft.of("x"))
        server.admin.execute_command("SCRIPT KILL")


def spin(server: Server) -> None:
    try:
        server.admin.eval("while true do end", 0)
    except ResponseError as error:
        assert "killed" in str(error)


async def test_an_error_reply_is_told_as_the_server_spelled_it(valkey: Server) -> None:
    engine = engine_at(valkey.port)
    async with running(engine):
        wire = engine.router.wires[0]
        with pytest.raises(RedisRefused, match=r"^NOSCRIPT "):
            await wire.call(b"EVALSHA", b"0" * 40, 0)
        await wire.call(b"SET", b"k", b"v")
        with pytest.raises(RedisRefused, match=r"^WRONGTYPE "):
            await wire.call(b"HGET", b"k", b"f")
        assert await wire.call(b"GET", b"k") == b"v"


@pytest.mark.parametrize("ends", [b"", b"$5\r\nhel"])
async def test_messages_in_any_pieces_are_told_whole_and_what_was_parsed_is_let_go(ends: bytes) -> None:
    told: list[Reply] = []
    connection = new_connection(Place(path="/nowhere"), Access(), 1.0, told.extend)
    with pytest.raises(Exception, match="nowhere"):
        await connection.run()
    push = b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$5000\r\n" + b"x" * 5000 + b"\r\n"
    stream = push * 1000
    begin, held = 0, 0
    while begin < len(stream):
        connection._data_received(stream[begin : begin + 65_521])  # never where a message ends
        begin += 65_521
        held = max(held, connection._parser.bytes_written)
    assert told == [[b"smessage", b"c", b"x" * 5000]] * 1000
    assert held <= 512 * 1024


async def test_an_operator_is_told_once_what_a_cache_loses(
    make_valkey: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_valkey("--maxmemory-policy", "allkeys-lru")
    engine = engine_at(server.port)
    async with running(engine):
        await engine.publish("g", Draft.of("x"))
        for _ in range(2):
            server.admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
            with trio.fail_after(30):
                while True:
                    try:
                        await engine.publish("g", Draft.of("x"))
                    except (EngineUnavailable, UnknownOutcome):
                        await trio.sleep(0.01)
                    else:
                        break
    warned = [record.getMessage() for record in caplog.records if "maxmemory-policy" in record.getMessage()]
    assert len(warned) == 1
    assert "allkeys-lru" in warned[0]
    assert sum("appendonly is no" in record.getMessage() for record in caplog.records) == 1


async def test_a_server_that_does_not_say_how_it_is_set_up_is_not_complained_of(
    make_valkey: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_valkey()
    server.admin.execute_command("ACL SETUSER me on >pw ~* &* +@all -config")
    engine = engine_at(f"redis://me:pw@127.0.0.1:{server.port}")
    async with running(engine):
        await engine.publish("g", Draft.of("x"))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_keeps_what_it_is_given_is_not_complained_of() -> None:
    assert list(warnings_about({"appendonly": "yes", "maxmemory-policy": "noeviction"})) == []
    assert list(warnings_about({})) == []


def test_the_wait_between_attempts_grows_to_its_bound_and_begins_anew_after_a_connection_that_lasted() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.after(0.0) for _ in range(50)]
    assert waits[0] <= FIRST_WAIT
    assert max(waits) <= LONGEST_WAIT
    assert min(waits[10:]) >= LONGEST_WAIT / 4
    assert len(set(waits)) == 50
    assert backoff.after(STEADY - 0.1) >= LONGEST_WAIT / 4
    assert backoff.after(STEADY) <= FIRST_WAIT
