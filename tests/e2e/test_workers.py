"""Several workers as their operators meet them: real processes and signals, one port, and clients that come and go."""

from __future__ import annotations

import os
import signal
import ssl
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio
import trio_websocket
import trustme

from tests.e2e.crews import ELSEWHERE, STUBBORN, Crew, alive, crew, paused, supervisor, wait_gone
from tests.e2e.processes import PATIENCE, run, triocast, websocket


async def connections(server: Crew) -> dict[str, float]:
    return await server.metric("triocast_connections")


async def client_of_each(server: Crew, stack: AsyncExitStack) -> dict[str, trio_websocket.WebSocketConnection]:
    """Connect until both workers have a client, and return one of each by the worker's label."""
    found: dict[str, trio_websocket.WebSocketConnection] = {}
    while len(found) < 2:  # who takes a connection is a race between the two; the one that idles wins in the end
        before = await connections(server)
        client = await stack.enter_async_context(websocket(f"{server.ws}/ws/g"))
        after = await connections(server)
        (worker,) = [label for label in after if after[label] > before[label]]
        found[worker] = client
    return found


async def closed_with(client: trio_websocket.WebSocketConnection) -> int:
    with trio.fail_after(PATIENCE), pytest.raises(trio_websocket.ConnectionClosed) as caught:
        await client.get_message()
    assert caught.value.reason is not None
    return caught.value.reason.code


async def test_workers_share_a_port_and_say_so_once() -> None:
    async with crew(ELSEWHERE) as server, AsyncExitStack() as stack:
        clients = await client_of_each(server, stack)
        assert set(clients) == {"1", "2"}
        assert server.program.output.count("is listening on") == 1
        assert server.pid(1) != server.pid(2)
        assert await server.program.end() == 0
        assert [await closed_with(client) for client in clients.values()] == [1012, 1012]
        assert not alive(server.pid(1))
        assert not alive(server.pid(2))
        assert "Traceback" not in server.program.output


async def test_any_worker_tells_the_metrics_of_all_and_who_does_not_answer() -> None:
    async with crew(ELSEWHERE) as server:
        assert await server.metric("triocast_worker_up") == {"1": 1, "2": 1}
        cpu = await server.metric("process_cpu_seconds_total")
        assert set(cpu) == {"1", "2"}
        assert min(cpu.values()) > 0
        with paused(server.pid(2)):
            assert await server.metric("triocast_worker_up") == {"1": 1, "2": 0}
        assert await server.metric("triocast_worker_up") == {"1": 1, "2": 1}


async def test_a_killed_worker_is_started_again_and_clients_of_the_other_notice_nothing() -> None:
    async with crew(ELSEWHERE) as server, AsyncExitStack() as stack:
        clients = await client_of_each(server, stack)
        os.kill(server.pid(1), signal.SIGKILL)
        assert await closed_with(clients["1"]) == 1006
        await server.program.wait_for("worker 1 was killed by SIGKILL; it is started again")
        await server.wait_started(1, times=2)
        with trio.fail_after(PATIENCE):
            await clients["2"].ping()
            while await server.metric("triocast_worker_up") != {"1": 1, "2": 1}:
                await trio.sleep(0.01)
        assert len(server.pids(2)) == 1
        assert await server.program.end() == 0


async def test_a_rolling_restart_refuses_nobody_and_tells_clients_to_come_back() -> None:
    async with crew(ELSEWHERE) as server, AsyncExitStack() as stack:
        clients = await client_of_each(server, stack)
        old = [server.pid(1), server.pid(2)]
        connected = 0

        async def keep_connecting(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal connected
            task_status.started()
            while True:
                async with websocket(f"{server.ws}/ws/g"):
                    connected += 1

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                await nursery.start(keep_connecting)
            before = connected
            server.program.process.send_signal(signal.SIGHUP)
            await server.program.wait_for("rolling restart done")
            nursery.cancel_scope.cancel()
        assert connected > before
        assert [await closed_with(client) for client in clients.values()] == [1012, 1012]
        assert not any(alive(pid) for pid in old)
        assert [len(server.pids(1)), len(server.pids(2))] == [2, 2]
        assert await server.metric("triocast_worker_up") == {"1": 1, "2": 1}
        assert await server.program.end() == 0


async def test_new_workers_have_the_settings_of_the_day_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "triocast.toml"
    file.write_text("max_message = 10\n")
    async with crew(ELSEWHERE, TRIOCAST_CONFIG=str(file)) as server:

        async def publish() -> int:
            return (await run(*triocast("publish", "--url", server.http, "g", "x" * 20))).returncode

        assert await publish() == 1
        file.write_text("max_message = 0\n")
        server.program.process.send_signal(signal.SIGHUP)
        await server.program.wait_for("nothing is restarted")
        file.write_text("max_message = 100\nlog_level = 'debug'\n")
        server.program.process.send_signal(signal.SIGHUP)
        await server.program.wait_for("a change of log_level takes a restart")
        await server.program.wait_for("rolling restart done")
        assert await publish() == 0
        assert len(server.pids(1)) == 2
        assert await server.program.end() == 0


async def test_workers_leave_when_their_supervisor_is_killed() -> None:
    houses = set(Path(tempfile.gettempdir()).glob("triocast-*/roster.json"))
    async with crew(ELSEWHERE) as server, AsyncExitStack() as stack:
        (house,) = set(Path(tempfile.gettempdir()).glob("triocast-*/roster.json")) - houses
        clients = await client_of_each(server, stack)
        pids = [server.pid(1), server.pid(2)]
        assert await server.program.end(signal.SIGKILL) == -signal.SIGKILL
        assert [await closed_with(client) for client in clients.values()] == [1012, 1012]
        await wait_gone(*pids)
        assert not house.parent.exists()


async def test_what_a_server_left_that_was_killed_is_removed_by_the_next_but_not_under_its_orphans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="h-") as place:
        monkeypatch.setenv("TMPDIR", place)
        async with supervisor(ELSEWHERE, "grace=3600", module=STUBBORN) as program:
            await program.wait_for("is listening on")
            (house,) = Path(place).glob("triocast-*/roster.json")
            pids = [Crew(program, 0).pid(number) for number in (1, 2)]
            assert await program.end(signal.SIGKILL) == -signal.SIGKILL
            async with crew(ELSEWHERE):
                assert all(alive(pid) for pid in pids)
                assert house.exists()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await wait_gone(*pids)
        assert house.exists()
        async with crew(ELSEWHERE):
            assert not house.parent.exists()


async def test_a_worker_that_does_not_leave_is_killed_after_the_grace_time() -> None:
    async with supervisor(ELSEWHERE, "grace=0.1", module=STUBBORN) as program:
        await program.wait_for("is listening on")
        pids = [Crew(program, 0).pid(number) for number in (1, 2)]
        assert await program.end() == 0
        await program.wait_for("outlived the grace time and is killed", times=2)
        assert not any(alive(pid) for pid in pids)


async def test_a_second_signal_ends_all_at_once() -> None:
    async with supervisor(ELSEWHERE, "grace=3600", module=STUBBORN) as program:
        await program.wait_for("is listening on")
        pids = [Crew(program, 0).pid(number) for number in (1, 2)]
        program.process.send_signal(signal.SIGTERM)
        await program.wait_for("stopping")
        assert await program.end(signal.SIGTERM) == -signal.SIGTERM
        await wait_gone(*pids)


async def test_workers_that_cannot_start_end_the_server_with_a_sentence() -> None:
    async with supervisor(ELSEWHERE, module="tests.e2e.nowhere") as program:
        with trio.fail_after(PATIENCE):
            assert await program.process.wait() == 1
        await program.wait_for("worker [12] ended with exit code 1 before it accepted connections")
        assert "is listening on" not in program.output


async def test_nobody_is_listening_while_the_workers_leave() -> None:
    async with crew(ELSEWHERE, "shutdown_spread=3600", "grace=3600") as server, AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(websocket(f"{server.ws}/ws/g"))
        server.program.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE), suppress(OSError):
            while True:
                await trio.aclose_forcefully(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert server.program.process.poll() is None
        assert await server.program.end() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--engine", "memory"], b"joins no processes"),
        (["--policy", "block"], b"engine memory and one worker"),
        (["--engine", "http://localhost"], b"expected redis://"),
        (["--engine", "redis://h", "--data-dir", "here"], b"there is none"),
        (["--shutdown-spread", "11"], b"at most grace"),
    ],
)
async def test_workers_that_could_not_be_one_server_are_refused(options: list[str], says: bytes) -> None:
    done = await run(*triocast("serve", "--workers", "2", *options))
    assert done.returncode == 2, done
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_worker_that_is_told_twice_tells_its_clients_all_the_same() -> None:
    async with crew(ELSEWHERE, "shutdown_spread=1", "grace=30") as server, AsyncExitStack() as stack:
        await client_of_each(server, stack)
        before = await connections(server)
        clients = [await stack.enter_async_context(websocket(f"{server.ws}/ws/g")) for _ in range(20)]
        assert sum((await connections(server)).values()) == sum(before.values()) + 20
        for number in (1, 2):  # as systemd does it: everybody at once
            os.kill(server.pid(number), signal.SIGTERM)
        await server.program.wait_for('"stopping".*"worker": 1')
        await server.program.wait_for('"stopping".*"worker": 2')
        assert await server.program.end() == 0
        assert {await closed_with(client) for client in clients} == {1012}


async def test_workers_share_a_unix_socket_which_is_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with supervisor(ELSEWHERE, f"bind=unix:{path}") as program:
        await program.wait_for("is listening on")
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        program.process.send_signal(signal.SIGHUP)
        await program.wait_for("rolling restart done")
        assert path.is_socket()
        assert await program.end() == 0
        assert not path.exists()


async def test_workers_speak_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    identity = authority.issue_cert("localhost")
    identity.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    pem = tmp_path / "server.pem"
    async with supervisor(ELSEWHERE, f"certfile={pem}", f"keyfile={pem}") as program:
        port = int((await program.wait_for(r"https://127\.0\.0\.1:(\d+)"))[1])
        async with websocket(f"wss://localhost:{port}/ws/g", trust) as client:
            assert await program.end() == 0
            assert await closed_with(client) == 1012
