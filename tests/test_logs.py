"""The log of `triocast serve`: records of plain `logging`, by us and by others, as JSON or for people."""

import io
import json
import logging
import warnings

import pytest

from triocast import logs
from triocast.settings import LogFormat, LogLevel, Settings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def configured(stream=None, **settings):
    stream = stream or io.StringIO()
    logs.configure(Settings(**settings), stream)
    return stream


def test_a_line_is_one_json_object_with_its_extra_fields():
    stream = configured()
    logging.getLogger("triocast.x").warning("client %s\nleft", "a", extra={"group": "chat", "behind": 3})
    told = json.loads(stream.getvalue())
    assert told.pop("timestamp").endswith("Z")
    assert told == {"level": "warning", "logger": "triocast.x", "event": "client a\nleft", "group": "chat", "behind": 3}


def test_an_exception_comes_with_its_traceback_in_the_same_line():
    stream = configured()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("triocast.x").exception("it failed", extra={"odd": object})
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["exception"].startswith("Traceback (most recent call last):")
    assert told["exception"].endswith("ValueError: boom")
    assert "odd" in told


def test_on_a_terminal_lines_are_for_people():
    stream = configured(Terminal())
    logging.getLogger("triocast.x").error("client left", extra={"group": "chat"})
    assert "client left" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_tracebacks_for_people_show_no_variables():
    stream = configured(Terminal())
    secret = "s3cret"
    try:
        assert not secret
    except AssertionError:
        logging.getLogger("triocast.x").exception("it failed")
    assert "Traceback" in stream.getvalue()
    assert "secret =" not in stream.getvalue()


@pytest.mark.parametrize(
    ("log_format", "terminal", "is_json"),
    [
        (LogFormat.JSON, True, True),
        (LogFormat.CONSOLE, False, False),
        (LogFormat.AUTO, True, False),
        (LogFormat.AUTO, False, True),
    ],
)
def test_the_format_can_be_chosen(log_format, terminal, is_json):
    stream = configured(Terminal() if terminal else None, log_format=log_format)
    logging.getLogger("triocast.x").warning("hello")
    assert stream.getvalue().startswith("{") is is_json


def test_a_log_that_is_not_a_terminal_has_no_colours():
    stream = configured(log_format=LogFormat.CONSOLE)
    logging.getLogger("triocast.x").error("hello")
    assert "\x1b" not in stream.getvalue()


def test_what_is_less_serious_than_the_level_is_left_out():
    stream = configured(log_level=LogLevel.WARNING)
    logging.getLogger("triocast.x").info("left out")
    logging.getLogger("hypercorn.error").warning("kept")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["kept"]


def test_warnings_become_lines_too():
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old way", UserWarning, stacklevel=1)
    assert "old way" in json.loads(stream.getvalue())["event"]
