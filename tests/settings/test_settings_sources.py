"""Where settings come from, which source wins, and what each is told when it is wrong."""

import json
from dataclasses import fields

import pytest

from triocast.core.overflow import Policy
from triocast.errors import SettingsError
from triocast.settings import GroupSettings, LogLevel, Settings, load


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(here, text, name="triocast.toml"):
    (here / name).write_text(text)


def problems(cli=None, environ=None, config=None):
    with pytest.raises(SettingsError) as caught:
        load(cli, environ or {}, config)
    return str(caught.value).splitlines()


def test_without_any_source_the_defaults_hold():
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    assert {name for (name,) in loaded.sources} == {item.name for item in fields(Settings)} - {"namespaces"}


def test_the_command_line_beats_the_environment_which_beats_the_file(here):
    write(here, "max_lag = 1\ninbox = 1\nhistory_size = 1\n")
    environ = {"TRIOCAST_INBOX": "2", "TRIOCAST_HISTORY_SIZE": "2"}
    loaded = load({"history_size": "3"}, environ)
    settings = loaded.settings
    assert (settings.max_lag, settings.inbox, settings.history_size) == (1, 2, 3)
    assert [loaded.sources[(name,)] for name in ("max_lag", "inbox", "history_size", "grace")] == [
        "file triocast.toml",
        "TRIOCAST_INBOX",
        "--history-size",
        "default",
    ]


def test_options_that_were_not_given_change_nothing():
    assert load({"max_lag": None, "bind": (), "insecure": None}).settings == Settings()


def test_the_file_is_the_one_of_the_option_then_of_the_variable_then_the_one_here(here):
    for name, value in (("triocast.toml", 1), ("variable.toml", 2), ("option.toml", 3)):
        write(here, f"inbox = {value}", name)
    environ = {"TRIOCAST_CONFIG": "variable.toml"}
    assert load({}, {}).settings.inbox == 1
    assert load({}, environ).settings.inbox == 2
    assert load({}, environ, "option.toml").settings.inbox == 3


def test_every_kind_of_value_can_come_from_the_environment():
    environ = {
        "TRIOCAST_BIND": "127.0.0.1:1, unix:/run/x",
        "TRIOCAST_GRACE": "2.5",
        "TRIOCAST_INSECURE": "true",
        "TRIOCAST_POLICY": "disconnect",
        "TRIOCAST_LOG_LEVEL": "debug",
        "TRIOCAST_API_KEY": "null",
        "TRIOCAST_ALLOWED_ORIGINS": "",
        "TRIOCAST_NAMESPACES": '{"chat": {"max_lag": 5}}',
    }
    settings = load({}, environ).settings
    assert settings.bind == ("127.0.0.1:1", "unix:/run/x")
    assert settings.grace == 2.5
    assert settings.insecure is True
    assert settings.policy is Policy.DISCONNECT
    assert settings.log_level is LogLevel.DEBUG
    assert settings.api_key == "null"
    assert settings.allowed_origins == ()
    assert settings.for_group("chat:1").max_lag == 5


def test_every_kind_of_value_can_come_from_the_command_line():
    settings = load(
        {"bind": ("127.0.0.1:1", "[::1]:1"), "insecure": False, "policy": "disconnect", "grace": "1"}
    ).settings
    assert settings.bind == ("127.0.0.1:1", "[::1]:1")
    assert settings.insecure is False
    assert settings.policy is Policy.DISCONNECT
    assert settings.grace == 1.0


def test_a_namespace_inherits_what_it_does_not_set(here):
    write(here, "inbox = 7\n[namespaces.chat]\nmax_lag = 5\n[namespaces.plain]\n")
    loaded = load({"history_size": "9"})
    chat = loaded.settings.for_group("chat:room")
    assert type(chat) is GroupSettings
    assert (chat.max_lag, chat.inbox, chat.history_size) == (5, 7, 9)
    assert loaded.settings.namespaces["plain"].inbox == 7
    assert loaded.settings.for_group("other:room") is loaded.settings
    assert loaded.sources[("namespaces", "chat", "max_lag")] == "file triocast.toml"


def test_namespaces_of_file_and_environment_are_merged_key_by_key(here):
    write(here, "[namespaces.chat]\nmax_lag = 5\ninbox = 5\n")
    loaded = load({}, {"TRIOCAST_NAMESPACES": '{"chat": {"inbox": 6}, "news": {"inbox": 8}}'})
    chat = loaded.settings.namespaces["chat"]
    assert (chat.max_lag, chat.inbox, loaded.settings.namespaces["news"].inbox) == (5, 6, 8)
    assert loaded.sources[("namespaces", "chat", "inbox")] == "TRIOCAST_NAMESPACES"


def test_everything_that_is_wrong_is_said_at_once_and_where(here):
    write(
        here,
        """
        max-lag = 3
        bind = "127.0.0.1:1"
        grace = true
        certfile = 5
        [namespaces.chat]
        max_lag = 0
        grace = 1.0
        [namespaces."a:b"]
        [namespaces."a b"]
        [namespaces."a.b"]
        inboks = 1
        """,
    )
    environ = {"TRIOCAST_MAX_LAGS": "1", "TRIOCAST_POLICY": "drop", "TRIOCAST_INBOX": "x", "PATH": "/bin"}
    told = problems({"history_ttl": "0", "bind": ("nowhere",)}, environ)
    assert told[:4] == [
        "triocast.toml: max-lag: no such setting (did you mean max_lag?)",
        "triocast.toml: namespaces.chat.grace: a setting of the whole server, not of a namespace",
        (
            "triocast.toml: namespaces.\"a:b\": a namespace has no ':'; it is what stands before the first ':' of a "
            "group's name"
        ),
        told[3],
    ]
    assert told[3].startswith("triocast.toml: namespaces.\"a b\": 'a b' is not a namespace: a group name has")
    assert told[4:] == [
        'triocast.toml: namespaces."a.b".inboks: no such setting (did you mean inbox?)',
        "TRIOCAST_MAX_LAGS: no such setting (did you mean TRIOCAST_MAX_LAG?)",
        "triocast.toml: bind: expected a list of strings, got '127.0.0.1:1'",
        "triocast.toml: grace: expected float, got True",
        "triocast.toml: certfile: expected str | null, got 5",
        "triocast.toml: namespaces.chat.max_lag: expected int >= 1, got 0",
        "TRIOCAST_INBOX: expected int, got 'x'",
        "TRIOCAST_POLICY: expected one of drop_oldest, drop_newest, latest, disconnect, block, got 'drop'",
        "--history-ttl: expected float > 0.0, got '0'",
        "--bind: expected HOST:PORT, [IPV6]:PORT or unix:PATH, got 'nowhere'",
    ]


def test_what_a_stronger_source_overrides_must_be_right_all_the_same(here):
    write(here, "inbox = 0")
    assert problems({"inbox": "1"}) == ["triocast.toml: inbox: expected int >= 1, got 0"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[1]", "TRIOCAST_NAMESPACES: namespaces: expected a table of namespaces, got [1]"),
        ('{"a": 1}', "TRIOCAST_NAMESPACES: namespaces.a: expected a table of group settings, got 1"),
        ("{", "TRIOCAST_NAMESPACES: expected a JSON object of namespaces: Expecting property name"),
    ],
)
def test_namespaces_in_the_environment_must_be_a_json_object_of_tables(value, told):
    (line,) = problems({}, {"TRIOCAST_NAMESPACES": value})
    assert line.startswith(told)


def test_namespaces_in_the_file_must_be_a_table(here):
    write(here, "namespaces = 5")
    assert problems() == ["triocast.toml: namespaces: expected a table of namespaces, got 5"]


def test_a_settings_file_that_is_not_there_is_named_with_what_named_it(here):
    assert problems(config="no.toml") == ["--config: no.toml: cannot read the settings file: no such file or directory"]
    assert problems(environ={"TRIOCAST_CONFIG": "no.toml"}) == [
        "TRIOCAST_CONFIG: no.toml: cannot read the settings file: no such file or directory"
    ]


def test_a_settings_file_that_cannot_be_read_is_an_error_even_if_nobody_named_it(here):
    (here / "triocast.toml").mkdir()
    assert problems() == ["triocast.toml: cannot read the settings file: is a directory"]


def test_a_syntax_error_is_named_with_its_line(here):
    write(here, "inbox = 1\nmax_lag 5\n")
    (line,) = problems()
    assert line.startswith("triocast.toml: not valid TOML: ")
    assert "(at line 2, column" in line


def test_a_file_that_is_not_text_is_an_error(here):
    (here / "triocast.toml").write_bytes(b"bind = '\xff'")
    assert problems()[0].startswith("triocast.toml: the settings file is not UTF-8 text")


def test_variables_that_are_no_settings_but_known_are_let_be():
    environ = {
        "TRIOCAST_URL": "http://x",
        "TRIOCAST_SERVICE_HOST": "10.0.0.1",
        "TRIOCAST_SERVICE_PORT_HTTP": "80",
        "TRIOCAST_PORT": "tcp://10.0.0.1:80",
        "TRIOCAST_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load({}, environ).settings == Settings()


@pytest.mark.parametrize("variable", ["TRIOCAST_", "TRIOCAST_PORT", "TRIOCAST_bind", "TRIOCAST_SERVICE"])
def test_other_variables_are_errors(variable):
    (line,) = problems({}, {variable: "8000"})
    assert line.startswith(f"{variable}: no such setting")


def test_a_key_is_shown_nowhere(here):
    write(here, 'api_key = "s3cret"')
    loaded = load()
    assert loaded.settings.api_key == "s3cret"
    assert "s3cret" not in repr(loaded)
    write(here, 'api_key = "s3cret with spaces"')
    assert problems() == ["triocast.toml: api_key: expected printable ASCII without spaces: a key travels in a header"]
    write(here, "api_key = 12345678")
    assert problems() == ["triocast.toml: api_key: expected str | null"]


def test_an_empty_key_is_refused_instead_of_meaning_none():
    assert problems({}, {"TRIOCAST_API_KEY": ""}) == ["TRIOCAST_API_KEY: expected str of length >= 1"]


def test_settings_written_as_json_by_hand_and_as_toml_are_the_same(here):
    tables = {"chat": {"policy": "disconnect", "history_ttl": 5, "client_publish": True}}
    write(here, '[namespaces.chat]\npolicy = "disconnect"\nhistory_ttl = 5\nclient_publish = true\n')
    assert load().settings == load({}, {"TRIOCAST_NAMESPACES": json.dumps(tables)}, "/dev/null").settings
