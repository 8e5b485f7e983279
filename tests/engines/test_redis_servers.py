from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.redis_servers import Cluster, Server, until


def test_a_server_with_an_append_only_file_finds_its_data_on_its_port_after_a_crash(valkey_aof: Server) -> None:
    port = valkey_aof.port
    valkey_aof.admin.set("k", "v")
    valkey_aof.kill()
    assert not valkey_aof.running
    valkey_aof.start()
    assert (valkey_aof.admin.get("k"), valkey_aof.port) == (b"v", port)


def test_each_server_is_alone(make_valkey: Callable[..., Server], valkey: Server) -> None:
    other = make_valkey()
    other.admin.set("k", "v")
    assert valkey.admin.get("k") is None
    assert other.port != valkey.port


def test_a_cluster_has_every_slot_and_sends_to_the_node_that_has_it(valkey_cluster: Cluster) -> None:
    for number in range(128):
        key = f"triocast:{{{number}}}:m:g"
        valkey_cluster.node_of(key).admin.set(key, number)
    assert sum(node.admin.dbsize() for node in valkey_cluster.nodes) == 128


def test_the_installed_redis_server_answers(debian_redis: Server) -> None:
    assert debian_redis.admin.ping()


CRASH = """
import os, signal
from tests.redis_servers import new_server, valkey_program
server = new_server(valkey_program())
server.start()
print(server.process.pid, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_goes_when_the_tests_crash() -> None:
    done = subprocess.run([sys.executable, "-c", CRASH], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid, directory = done.stdout.split()
    subprocess.run(["rm", "-r", directory], check=True)
    until(lambda: not _alive(int(pid)), f"{pid} is gone")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return _state(pid) != "Z"  # whoever reaps orphans here may take its time


def _state(pid: int) -> str:
    asked = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=False)
    return asked.stdout.strip()[:1] or "Z"


def test_a_port_that_is_not_to_be_had_is_an_error_with_the_servers_log(valkey: Server) -> None:
    taken = Server(valkey.program, valkey.directory.parent / f"{valkey.directory.name}-2", port=valkey.port)
    taken.directory.mkdir()
    try:
        with pytest.raises(AssertionError, match="Failed listening"):
            taken.start()
    finally:
        taken.close()
