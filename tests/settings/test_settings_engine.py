"""Engines as settings name them: their shape, what goes together, and passwords that nobody is shown."""

from __future__ import annotations

import sys

import pytest
from tests.e2e.processes import run, triocast

from triocast import GroupSettings, Policy, Settings, Triocast
from triocast.engines.choice import make_engine
from triocast.engines.memory import MemoryEngine
from triocast.engines.redis import RedisEngine
from triocast.errors import SettingsError
from triocast.settings import check_made, load
from triocast.settings.engine import check_engine, without_password

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "memory",
        "redis://localhost",
        "redis://user:p%40ss@10.0.0.1:6379/1?prefix=x",
        "rediss://[::1]:6380",
        "valkey://localhost",
        "valkeys://localhost",
        "unix:///run/valkey.sock?db=1",
        "redis+sentinel://a:26379,b,c/primary",
        "rediss+cluster://a,b",
    ],
)
def test_an_engine_that_could_be_is_taken(url: str) -> None:
    check_engine(url)
    assert load({"engine": url}).settings.engine == url


def test_a_file_of_tls_that_is_not_there_is_said_before_anything_is_connected() -> None:
    with pytest.raises(SettingsError, match=r"engine: .*no file '/nonexistent'") as refused:
        load({"engine": f"rediss://:{SECRET}@h?cafile={__file__}&keyfile=/nonexistent"})
    assert SECRET not in str(refused.value)
    load({"engine": f"rediss://:{SECRET}@h?cafile={__file__}"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis:localhost",
        "http://localhost",
        "redis://",
        f"redis://user:{SECRET}@",
        f"redis://:{SECRET}@a,b",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host:65536",
        f"redis://:{SECRET}#@host",
        f"redis://:{SECRET}@[::1",
        f"redis+sentinel://:{SECRET}@a,b",
        f"redis+other://:{SECRET}@a",
        f"unix://:{SECRET}@",
        "unix://run/valkey.sock",
    ],
)
def test_what_names_no_engine_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="expected") as caught:
        load({"engine": url})
    assert SECRET not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        check_made(Settings(engine=url))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://user:{SECRET}@h:1/0?prefix=a", "redis://user:***@h:1/0?prefix=a"),
        (f"rediss://:{SECRET}@h", "rediss://:***@h"),
        (f"redis+cluster://u:{SECRET}%40{SECRET}@a,b:2", "redis+cluster://u:***@a,b:2"),
        (f"redis://u:{SECRET}@{SECRET}@h", "redis://u:***@h"),
        (f"unix:///run/v.sock?db=1&password={SECRET}&prefix=x", "unix:///run/v.sock?db=1&password=***&prefix=x"),
        (f"redis://h?PASSWORD={SECRET}", "redis://h?PASSWORD=***"),
        ("redis://user@h", "redis://user@h"),
        ("memory", "memory"),
    ],
)
def test_a_password_is_hidden_and_the_rest_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


async def test_no_password_is_in_the_repr_or_what_config_prints() -> None:
    url = f"redis://user:{SECRET}@localhost/0"
    assert SECRET not in repr(load({"engine": url}).settings)
    for words in (["config"], ["config", "--json"], ["config", "--engine", f"redis://:{SECRET}@a,b"]):
        done = await run(*triocast(*words), TRIOCAST_ENGINE=url)
        assert SECRET.encode() not in done.stdout + done.stderr
        assert b"redis://user:***@localhost/0" in done.stdout or done.returncode == 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"workers": "2", "engine": "memory"}, "joins no processes"),
        ({"workers": "2", "policy": "block"}, "one worker"),
        ({"engine": "redis://h", "policy": "block"}, "engine memory"),
        ({"data_dir": "here"}, "there is none"),
        ({"shutdown_spread": "10.5"}, "has to be at most grace"),
        ({"shutdown_spread": "-1"}, "shutdown-spread"),
        ({"workers": "0"}, "workers"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(values)


def test_a_namespace_that_blocks_is_found_too() -> None:
    blocking = {"TRIOCAST_NAMESPACES": '{"jobs": {"policy": "block"}, "others": {}}'}
    assert load(environ=blocking).settings.workers == 1
    with pytest.raises(SettingsError, match="block holds publishers back") as caught:
        load({"workers": "2"}, blocking)
    assert str(caught.value).count("\n") == 0
    assert "namespaces.jobs.policy" in str(caught.value)


def test_an_engine_of_several_processes_made_in_code_is_refused_with_a_group_that_blocks() -> None:
    blocking = Settings(namespaces={"jobs": GroupSettings(policy=Policy.BLOCK)})
    engine = RedisEngine(blocking, "redis://localhost")
    with pytest.raises(SettingsError, match=r"namespaces\.jobs\.policy: block holds"):
        Triocast(settings=blocking, engine=engine)
    with pytest.raises(SettingsError, match=r"^policy: block holds"):
        Triocast(settings=Settings(policy=Policy.BLOCK), engine=engine)
    Triocast(settings=blocking, engine=MemoryEngine(blocking))
    Triocast(settings=Settings(), engine=engine)


def test_settings_that_name_no_engine_or_memory_make_that() -> None:
    assert isinstance(make_engine(Settings()), MemoryEngine)
    assert isinstance(make_engine(Settings(engine="memory")), MemoryEngine)


def test_a_redis_without_its_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coredis", None)
    with pytest.raises(SettingsError, match=r"pip install 'triocast\[redis\]'"):
        make_engine(Settings(engine="redis://localhost"))
    assert isinstance(make_engine(Settings()), MemoryEngine)
