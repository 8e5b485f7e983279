"""What is nested more deeply than Python reads is an error with a name, or passed on unread."""

from __future__ import annotations

import pytest

from triocast.client import Received, UnexpectedFrame
from triocast.client.attempt import error_message
from triocast.client.event_readers import read_close
from triocast.client.events import Event
from triocast.client.readers import JsonReader

DEEP = "[" * 200_000 + "]" * 200_000


def test_a_message_that_is_nested_too_deeply_comes_all_the_same() -> None:
    received = JsonReader().read(f'{{"group":"a\\"\\u00fc","offset":7,"data":{DEEP}}}')
    assert received == Received(DEEP, 'a"ü', 7, is_json=True)
    with pytest.raises(RecursionError):
        _ = received.value


@pytest.mark.parametrize(
    "frame",
    [
        f'{{"group":"a","news":{DEEP}}}',
        f'{{"group":"a","presence":{{"joined":[{{"client":"c","info":{DEEP}}}]}}}}',
        f'{{"group":"\\x","offset":7,"data":{DEEP}}}',
        f'{{"group":"a","offset":{"9" * 5000},"data":{DEEP}}}',
    ],
)
def test_what_else_is_nested_too_deeply_or_makes_no_sense_is_said(frame: str) -> None:
    with pytest.raises(UnexpectedFrame, match="is it a Triocast"):
        JsonReader().read(frame)


def test_a_close_that_is_nested_too_deeply_says_nothing_that_we_know() -> None:
    with pytest.raises(UnexpectedFrame, match="says nothing that we know"):
        read_close(Event("close", f'{{"code":1000,"more":{DEEP}}}', ""))


def test_a_refusal_that_is_nested_too_deeply_has_no_message() -> None:
    assert error_message(DEEP.encode()) is None
    assert error_message(b'{"error":{"message":"no"}}') == "no"
