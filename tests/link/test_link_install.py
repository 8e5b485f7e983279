"""The link under `hypercorn -k trio`: installed openly, or not at all and loudly."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata

import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio.run import worker_serve
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.utils import wrap_app

from tests.link.harness import QUICK, TEXT, Application, Client, frame, serve, settings
from triocast.link import Link, install, link_class, workers


@pytest.fixture(autouse=True)
def hypercorn_as_it_was() -> Iterator[None]:
    """Stock before, whatever other tests have installed, and stock after."""
    hypercorn.trio.run.TCPServer = TCPServer
    yield
    hypercorn.trio.run.TCPServer = TCPServer


async def test_an_installed_link_serves_hypercorn_s_connections() -> None:
    assert install(settings(max_message=10))
    config, stop = Config(), trio.Event()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    app = wrap_app(Application(), 1 << 20, "asgi")
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(worker_serve, app, config, shutdown_trigger=stop.wait))
        async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:
            client = Client(stream)
            await client.upgrade()
            await client.send(frame(TEXT, b"hello"))
            assert await client.frame() == (TEXT, b"hello")
            await client.send(frame(TEXT, b"hello, is anybody there?"))
            assert (await client.close())[0] == 1009
        stop.set()


def test_installing_again_takes_the_last_settings() -> None:
    assert install(settings(max_message=10))
    assert install(settings(max_message=20))
    installed = hypercorn.trio.run.TCPServer
    assert issubclass(installed, Link)
    assert installed.settings.max_message == 20


def test_each_class_counts_its_own_connections() -> None:
    one, other = link_class(QUICK), link_class(QUICK)
    assert issubclass(one, TCPServer)
    assert one.live is not other.live


def test_another_version_of_hypercorn_is_left_alone_loudly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.19.0")
    assert not install(QUICK)
    assert hypercorn.trio.run.TCPServer is TCPServer
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "0.19.0" in record.getMessage()
    assert "hypercorn>=0.18,<0.19" in record.getMessage()


def test_a_hypercorn_without_what_is_relied_on_is_left_alone_loudly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(hypercorn.protocol.ws_stream, "WebsocketBuffer")
    assert not install(QUICK)
    assert hypercorn.trio.run.TCPServer is TCPServer
    assert "hypercorn.protocol.ws_stream.WebsocketBuffer.to_message missing" in caplog.text


def test_the_package_imports_without_hypercorn_s_inner_classes() -> None:
    code = (
        "import hypercorn.protocol.h11 as h11\n"
        "del h11.H11Protocol\n"
        "from triocast.link import install\n"
        "from triocast.settings import Settings\n"
        "assert install(Settings()) is False\n"
    )
    # Hypercorn's own modules need the class; ours must be able to say that it is missing.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "H11Protocol" in done.stderr


async def test_several_workers_are_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "_warned", set())
    config = Config()
    config.workers = 2
    async with serve(Application(), config=config) as served:
        for _ in range(2):
            assert b" 200 " in await (await served.connect()).request()
    (record,) = caplog.records
    assert "the memory engine does not join" in record.getMessage()
    assert "run one worker" in record.getMessage()


async def test_one_worker_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(Application()) as served:
        assert b" 200 " in await (await served.connect()).request()
    assert caplog.records == []
