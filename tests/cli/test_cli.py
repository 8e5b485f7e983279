"""The command line as a whole: help, settings, exit codes and what errors look like."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from triocast.cli import main
from triocast.cli.options import NOT_OPTIONS, SECTIONS
from triocast.settings import Settings

COMMANDS = ["serve", "config", "publish", "listen"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for variable in [name for name in os.environ if name.startswith("TRIOCAST_")]:
        monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


def test_alone_it_prints_its_help(run):
    assert run() == run("--help")
    code, out, err = run()
    assert (code, err) == (0, "")
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_fits_a_terminal_and_has_an_example(arguments, run):
    code, out, _ = run(*arguments)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    assert re.search(r"^    triocast \w+", out, re.MULTILINE)


def test_every_setting_is_an_option_under_one_heading():
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted({item.name for item in fields(Settings)} - NOT_OPTIONS)


def test_help_of_serve_names_every_option_with_its_default(run):
    _, out, _ = run("serve", "--help")
    for name in (name for names in SECTIONS.values() for name in names):
        assert f"  --{name.replace('_', '-')} " in out
    assert re.search(r"--max-message N .*\[default:\s+1048576\]", out, re.DOTALL)
    assert [f"\n{section}:\n" in out for section in SECTIONS] == [True] * len(SECTIONS)


def test_the_version_is_that_of_the_package(run):
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"triocast, version \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serv"], "triocast: No such command 'serv'"),
        (["serve", "--max-messages", "1"], "triocast: No such option"),
        (["publish"], "triocast: Missing argument 'GROUP'"),
        (["publish", "a b", "x"], "triocast: 'a b' is not a group name: a group name has 1 to 255"),
        (["publish", "a", "x", "--url", "nowhere"], "triocast: 'nowhere' is no address of a server"),
        (["publish", "a", "x", "--binary", "f"], "triocast: --binary goes neither with MESSAGE nor with --json"),
        (["publish", "a", "--binary", "no-file"], "triocast: cannot read no-file: no such file or directory"),
        (["listen"], "triocast: Missing argument 'GROUP...'"),
        (["listen", "a*"], "triocast: 'a*' is not a group name"),
        (["listen", "a", "--count", "0"], "triocast: Invalid value for '--count'"),
        (["serve", "--bind", "x"], "triocast: --bind: expected HOST:PORT"),
        (["serve", "--bind", "0.0.0.0:0"], "triocast: will not listen on 0.0.0.0:0 without a key"),
        (["serve", "--config", "no.toml"], "triocast: --config: no.toml: cannot read the settings file"),
    ],
)
def test_mistakes_exit_with_2_and_say_what_was_wrong(arguments, told, run):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(told)
    assert "Traceback" not in err


def test_all_mistakes_in_the_settings_are_said_a_line_each(run, here):
    (here / "triocast.toml").write_text("inbox = 0\ngrase = 1\n")
    code, _, err = run("serve", "--max-lag", "x")
    assert code == 2
    assert err.splitlines() == [
        "triocast: triocast.toml: grase: no such setting (did you mean grace?)",
        "triocast: triocast.toml: inbox: expected int >= 1, got 0",
        "triocast: --max-lag: expected int, got 'x'",
    ]


def test_config_shows_values_and_where_they_came_from(run, here, monkeypatch):
    (here / "triocast.toml").write_text('inbox = 7\n[namespaces.chat]\npolicy = "disconnect"\n')
    monkeypatch.setenv("TRIOCAST_GRACE", "3")
    code, out, err = run("config", "--bind", "127.0.0.1:1", "--bind", "unix:/x", "--client-publish")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert len(rows) == len(fields(Settings)) - len(NOT_OPTIONS) + 1
    for row in (
        ["bind", "127.0.0.1:1, unix:/x", "--bind"],
        ["client_publish", "yes", "--client-publish"],
        ["grace", "3", "TRIOCAST_GRACE"],
        ["inbox", "7", "file triocast.toml"],
        ["namespaces.chat.policy", "disconnect", "file triocast.toml"],
        ["max_lag", "1024", "default"],
    ):
        assert row in rows


def test_config_is_aligned_on_a_terminal(run, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, _ = run("config")
    assert len({line.index("  default") for line in out.splitlines() if line.endswith("  default")}) == 1
    assert "\t" not in out


def test_config_as_json_has_the_shape_of_the_file(run, here):
    (here / "triocast.toml").write_text('[namespaces.chat]\npolicy = "disconnect"\n')
    _, out, _ = run("config", "--json")
    told = json.loads(out)
    assert told["bind"] == {"value": ["127.0.0.1:8000"], "source": "default"}
    assert told["namespaces"] == {"chat": {"policy": {"value": "disconnect", "source": "file triocast.toml"}}}


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_config_never_shows_a_key(how, run, monkeypatch):
    monkeypatch.setenv("TRIOCAST_API_KEY", "s3cret")
    _, out, err = run("config", *how)
    assert "(set)" in out
    assert "s3cret" not in out + err


def test_config_says_what_serve_would_refuse(run):
    code, out, err = run("config", "--bind", "0.0.0.0:0")
    assert code == 2
    assert "bind\t0.0.0.0:0\t--bind" in out
    assert err.startswith("triocast: serve will not listen on 0.0.0.0:0 without a key")


def test_it_runs_as_a_module_and_does_not_load_the_server_to_print_help():
    script = "import sys, runpy\ntry:\n runpy.run_module('triocast', run_name='__main__')\nexcept SystemExit:\n pass\n"
    script += "print([name for name in sys.modules if name.split('.')[0] in ('quart', 'hypercorn')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("Usage: triocast")
    assert done.stderr == ""
