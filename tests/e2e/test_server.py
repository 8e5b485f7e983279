"""`triocast serve` as its users meet it: real processes, real sockets, real clients, real signals."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest
import trio
import trio_websocket
import trustme

from tests.e2e.processes import (
    PATIENCE,
    Server,
    get,
    run,
    running,
    serving,
    triocast,
    wait_subscribers,
    websocket,
)


async def test_two_wscat_clients_get_what_httpie_publishes(wscat: str, http: str) -> None:
    async with serving() as server:
        url = f"{server.ws}/ws/sample"
        async with running(wscat, "-c", url) as first, running(wscat, "-c", url) as second:
            await wait_subscribers(server, "sample", 2)
            answer = await run(http, "--ignore-stdin", f"{server.http}/publish/sample", "msg==hello world")
            assert json.loads(answer.stdout)["subscribers"] == 2, answer
            await first.wait_for("(?m)^hello world$")
            await second.wait_for("(?m)^hello world$")
            await run(http, "--ignore-stdin", "--form", "POST", f"{server.http}/publish/sample", "msg=a form & more")
            await first.wait_for("(?m)^a form & more$")
            await run(http, "POST", f"{server.http}/publish/sample", "Content-Type:text/plain", stdin=b"raw")
            await first.wait_for("(?m)^raw$")
            await run(http, "--ignore-stdin", "POST", f"{server.http}/publish/sample", "price:=1")
            await second.wait_for(r'(?m)^\{"price": 1\}$')


async def test_curl_d_publishes_its_words_as_text(curl: str) -> None:
    async with serving() as server, websocket(f"{server.ws}/ws/a:b") as client:
        for body in ("hello", "a=b&c=d", "100% & more", "msg=hello+world"):
            await run(curl, "-sS", "-d", body, f"{server.http}/publish/a%3Ab")
        got = [await client.get_message() for _ in range(4)]
        assert got == ["hello", "a=b&c=d", "100% & more", "hello world"]


async def test_text_stays_text_binary_stays_binary_and_empty_ones_arrive() -> None:
    toml = "TRIOCAST_CLIENT_PUBLISH"
    async with serving(**{toml: "true"}) as server:
        async with (
            websocket(f"{server.ws}/ws/g") as speaker,
            websocket(f"{server.ws}/ws?group=g&group=h") as listener,
        ):
            sent = ["text", b"\x00\xff", "", b"", "é", b"end"]
            for message in sent:
                await speaker.send_message(message)
            with trio.fail_after(PATIENCE):
                assert [await listener.get_message() for _ in sent] == sent


async def test_a_client_that_may_not_publish_is_told_so() -> None:
    async with serving() as server, websocket(f"{server.ws}/ws/g") as client:
        await client.send_message("hello?")
        with trio.fail_after(PATIENCE), pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await client.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1008
        assert "client_publish" in str(caught.value.reason.reason)


async def test_the_triocast_commands_talk_to_each_other() -> None:
    async with serving() as server:
        async with running(*triocast("listen", "--url", server.http, "news", "sport", "--json")) as listener:
            await wait_subscribers(server, "news", 1)
            await wait_subscribers(server, "sport", 1)
            done = await run(*triocast("publish", "--url", server.http, "news", "hello"))
            assert done.returncode == 0, done
            lines = await run(*triocast("publish", "--url", server.http, "sport"), stdin=b"one\ntwo\n")
            assert lines.returncode == 0, lines
            await listener.wait_for(r'"group": ?"sport".*"two"')
            assert '"hello"' in listener.output
            assert await listener.end(signal.SIGINT) == 130


async def test_a_listener_comes_back_when_the_server_does() -> None:
    async with serving() as server:
        listen = triocast("listen", "--url", server.http, "g")
        async with running(*listen) as listener:
            await wait_subscribers(server, "g", 1)
            assert await server.program.end() == 0
            await listener.wait_for("1012")
            async with running(*triocast("serve", "--bind", f"127.0.0.1:{server.port}")) as program:
                await program.wait_for("listening on")
                await wait_subscribers(server, "g", 1)
                await run(*triocast("publish", "--url", server.http, "g", "back again"))
                await listener.wait_for("back again")


async def test_a_client_killed_without_a_close_is_gone_from_groups_at_once() -> None:
    async with serving() as server:
        async with running(*triocast("listen", "--url", server.http, "g")) as listener:
            await wait_subscribers(server, "g", 1)
            listener.process.kill()
            await wait_subscribers(server, "g", 0)
            assert (await get(server, "/groups"))[1] == {"groups": [], "next": None}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_clients_with_1012_and_ends_with_0(number: int) -> None:
    async with serving() as server, websocket(f"{server.ws}/ws/g") as client:
        await wait_subscribers(server, "g", 1)
        assert await server.program.end(number) == 0
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await client.get_message()
        assert caught.value.reason is not None
        assert (caught.value.reason.code, caught.value.reason.name) == (1012, "SERVICE_RESTART")
        assert "Traceback" not in server.program.output


async def test_clients_that_never_read_do_not_hold_the_server_up() -> None:
    async with serving("--grace", "1", "--write-timeout", "600", "--close-timeout", "300") as server:
        stalled = []
        for _ in range(20):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(
                b"GET /ws/g HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            stalled.append(sock)
        await wait_subscribers(server, "g", 20)
        body = b"x" * 1_000_000
        behind = 0
        with trio.fail_after(PATIENCE):
            while behind < 20:
                done = await run(
                    *triocast("publish", "--url", server.http, "g", "--binary", "-", "--output", "json"), stdin=body
                )
                behind = json.loads(done.stdout)["behind"]
        assert await server.program.end() == 0
        await server.program.wait_for("outlived the grace time")
        for sock in stalled:
            sock.close()


async def test_a_second_signal_ends_it_at_once() -> None:
    async with serving("--grace", "600", "--close-timeout", "600") as server:
        stuck = socket.create_connection(("127.0.0.1", server.port))
        stuck.sendall(b"POST /publish/g HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nhalf")
        with trio.fail_after(PATIENCE):
            while (await get(server, "/health/ready"))[0] != 200:
                await trio.lowlevel.checkpoint()
            server.program.process.send_signal(signal.SIGTERM)
            await server.program.wait_for('"stopping"|stopping')
            assert await server.program.end(signal.SIGTERM) == -signal.SIGTERM
        stuck.close()


async def test_a_port_in_use_is_said_in_a_sentence() -> None:
    async with serving() as server:
        again = await run(*triocast("serve", "--bind", f"127.0.0.1:{server.port}"))
        assert again.returncode == 1
        assert b"the address is in use" in again.stderr
        assert b"Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bind", "0.0.0.0:0"], b"--insecure"),
        (["--config", "nowhere.toml"], b"nowhere.toml"),
        (["--max-message", "many"], b"max-message"),
        (["--certfile", "nowhere.pem", "--keyfile", "nowhere.pem"], b"nowhere.pem"),
    ],
)
async def test_what_cannot_be_served_is_refused_with_2(options: list[str], says: bytes) -> None:
    done = await run(*triocast("serve", *options))
    assert done.returncode == 2, done
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


async def test_tls_and_unix_sockets_serve_the_same(tmp_path: Path, curl: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(chain))
    certificate.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with serving("--certfile", str(chain), "--keyfile", str(key)) as server:
        url = f"wss://127.0.0.1:{server.port}/ws/g"
        async with websocket(url, context) as client:
            ca = tmp_path / "ca.pem"
            authority.cert_pem.write_to_path(str(ca))
            for protocol in ("--http1.1", "--http2"):
                answer = await run(
                    curl,
                    protocol,
                    "-sS",
                    "--cacert",
                    str(ca),
                    "-d",
                    "hi",
                    f"https://127.0.0.1:{server.port}/publish/g",
                )
                assert json.loads(answer.stdout)["subscribers"] == 1, answer
                assert await client.get_message() == "hi"
        assert await server.program.end() == 0
    path = tmp_path / "triocast.sock"
    async with running(*triocast("serve", "--bind", f"unix:{path}")) as program:
        await program.wait_for("listening on")
        answer = await run(curl, "-sS", "--unix-socket", str(path), "-d", "hi", "http://anything/publish/g")
        assert json.loads(answer.stdout)["offset"] == 1
        assert await program.end() == 0
    assert not path.exists()


async def test_hypercorn_serves_the_same_application_hardened() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}", "triocast.asgi:app"]
    async with running(*command, TRIOCAST_CLIENT_PUBLISH="true") as program:
        await program.wait_for("Running on")
        server = Server(program, port)
        async with websocket(f"{server.ws}/ws/g") as client:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(  # the request that ends a stock Hypercorn
                b"GET /ws/g HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: \xff\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await stream.receive_some()
            await stream.aclose()
            await client.send_message(b"")
            assert await client.get_message() == b""
            program.process.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE), pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
            assert caught.value.reason is not None
            assert caught.value.reason.code == 1012
        with trio.fail_after(PATIENCE):
            assert await program.process.wait() == 0


async def test_hypercorn_with_two_workers_warns_that_they_are_not_joined() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "hypercorn",
        "-k",
        "trio",
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        "triocast.asgi:app",
    ]
    async with running(*command) as program:
        await program.wait_for("Running on")
        await get(Server(program, port), "/health/live")
        await program.wait_for("does not join")
        await program.end()
