"""Values that must have a form, settings that contradict each other, and listening where everybody can come."""

import math

import pytest

from triocast import Draft, Kind, Triocast
from triocast.core.names import MAX_CONNECTION_ID, MAX_NAME
from triocast.errors import SettingsError
from triocast.settings import GroupSettings, Settings, addresses, check_exposure, check_made, load
from triocast.settings.check import MESSAGE_OVERHEAD


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    return tmp_path


def told(**cli):
    with pytest.raises(SettingsError) as caught:
        load(cli)
    return str(caught.value)


def test_certificate_and_key_come_together_or_not_at_all():
    assert load({"certfile": "cert.pem", "keyfile": "key.pem"}).settings.certfile == "cert.pem"
    assert told(certfile="cert.pem") == "--certfile: needs keyfile too: TLS takes both or neither"
    assert told(keyfile="key.pem") == "--keyfile: needs certfile too: TLS takes both or neither"


def test_files_that_are_named_must_be_there(here):
    assert told(certfile="no.pem", keyfile=str(here)).splitlines() == [
        "--certfile: there is no file 'no.pem'",
        f"--keyfile: there is no file {str(here)!r}",
    ]


def test_the_lag_must_hold_a_message_of_the_largest_size():
    least = 1000 + MESSAGE_OVERHEAD
    assert load({"max_message": "1000", "max_lag_bytes": str(least)}).settings.max_lag_bytes == least
    message = told(max_message="1000", max_lag_bytes=str(least - 1))
    assert message.startswith(f"--max-lag-bytes: max_lag_bytes is {least - 1} and has to be at least {least}: ")


def test_what_the_lag_must_hold_is_the_heaviest_message_there_can_be():
    heaviest = Draft(Kind.BINARY, bytes(1000), "k" * MAX_NAME, exclude="i" * MAX_CONNECTION_ID)
    assert heaviest.weight == 1000 + MESSAGE_OVERHEAD


def test_a_larger_message_names_itself_if_the_lag_was_left_at_its_default():
    assert told(max_message="5000000").startswith("--max-message: max_lag_bytes is 4194304 and has to be at least ")


def test_the_lag_of_a_namespace_must_hold_a_message_too(here):
    (here / "triocast.toml").write_text("[namespaces.chat]\nmax_lag_bytes = 100\n[namespaces.other]\n")
    message = told()
    assert message.startswith("triocast.toml: namespaces.chat.max_lag_bytes: max_lag_bytes is 100 and ")
    assert len(message.splitlines()) == 1


def test_a_position_is_remembered_for_as_long_as_messages_are(here):
    assert load({"history_ttl": "100", "position_ttl": "100"}).settings.history_ttl == 100
    message = told(history_ttl="101", position_ttl="100")
    assert message.startswith("--history-ttl: history_ttl is 101.0 and has to be at most position_ttl (100.0)")
    (here / "triocast.toml").write_text("position_ttl = 90\n[namespaces.chat]\nhistory_ttl = 91\n[namespaces.b]\n")
    message = told()
    assert message.startswith("triocast.toml: namespaces.chat.history_ttl: history_ttl is 91")
    assert len(message.splitlines()) == 1


def test_a_value_that_is_wrong_by_itself_is_not_also_called_a_contradiction():
    assert told(certfile="no.pem", keyfile="key.pem").splitlines() == ["--certfile: there is no file 'no.pem'"]
    assert told(max_lag_bytes="x", max_message="5000000") == "--max-lag-bytes: expected int, got 'x'"


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost:3000", "https://[::1]:8443", "capacitor://localhost", "*"]
)
def test_origins_are_accepted_as_browsers_send_them(origin):
    assert load({"allowed_origins": (origin,)}).settings.allowed_origins == (origin,)


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://Example.org", "null", "https://", ""]
)
def test_what_no_browser_sends_is_no_origin(origin):
    assert told(allowed_origins=(origin,)).startswith("--allowed-origins: expected an origin as browsers send it")


@pytest.mark.parametrize("origin", ["https://example.org:443", "http://example.org:80"])
def test_an_origin_with_its_default_port_would_never_match(origin):
    assert "browsers leave out the default port" in told(allowed_origins=(origin,))


@pytest.mark.parametrize("proxy", ["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "unix"])
def test_proxies_are_addresses_networks_or_unix(proxy):
    assert load({"trusted_proxies": (proxy,)}).settings.trusted_proxies == (proxy,)


@pytest.mark.parametrize("proxy", ["*", "nginx", "10.0.0.1/8", "10.0.0.0/33"])
def test_other_proxies_are_refused(proxy):
    assert told(trusted_proxies=(proxy,)).startswith("--trusted-proxies: expected an address, a network")


def test_there_must_be_an_address_and_none_twice(here):
    (here / "triocast.toml").write_text("bind = []")
    assert told() == "triocast.toml: bind: expected at least one address to listen on"
    assert told(bind=("unix:/x", "unix:/x")).endswith("--bind: 'unix:/x' stands there twice")


@pytest.mark.parametrize("bind", [("127.0.0.1:1",), ("localhost:1", "[::1]:1", "unix:/x")])
def test_loopback_needs_no_key(bind):
    settings = Settings(bind=bind)
    check_exposure(settings)
    assert all(address.is_loopback for address in addresses(settings))


def test_listening_beyond_loopback_without_a_key_is_refused_saying_what_to_do():
    with pytest.raises(SettingsError) as caught:
        check_exposure(Settings(bind=("127.0.0.1:1", "0.0.0.0:2", "[::]:3")))
    message = str(caught.value)
    assert message.startswith("will not listen on 0.0.0.0:2, [::]:3 without a key")
    assert all(way in message for way in ("TRIOCAST_API_KEY", "--bind 127.0.0.1:8000", "--insecure"))


@pytest.mark.parametrize("settings", [{"api_key": "k"}, {"insecure": True}])
def test_a_key_or_insecure_opens_every_address(settings):
    exposed = Settings(bind=("0.0.0.0:1",), **settings)
    check_exposure(exposed)
    assert not addresses(exposed)[0].is_loopback


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"policy": "block"}, "policy: expected one of Policy.DROP_OLDEST"),
        ({"max_lag": 0}, "max_lag: expected int >= 1"),
        ({"max_lag": "3"}, "max_lag: expected int"),
        ({"write_timeout": math.inf}, "write_timeout: expected float <="),
        ({"allowed_origins": ["*"]}, "allowed_origins: expected a tuple, got ['*']"),
        ({"api_key": "a b"}, "api_key: expected printable ASCII"),
        ({"max_lag_bytes": 10}, "max_lag_bytes: max_lag_bytes is 10 and has to be at least"),
        ({"namespaces": {"jobs": GroupSettings(block_timeout=-1)}}, "namespaces.jobs.block_timeout: expected float >"),
    ],
)
def test_settings_made_in_code_are_held_to_the_same(made, problem):
    with pytest.raises(SettingsError) as caught:
        Triocast(settings=Settings(**made))
    assert problem in str(caught.value)


def test_settings_made_in_code_tell_all_that_is_wrong_at_once():
    with pytest.raises(SettingsError) as caught:
        check_made(Settings(max_lag=0, inbox=-1))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["max_lag", "inbox"]
