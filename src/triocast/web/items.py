"""From the JSON body of `POST /publish` to the messages it means, each for one group; what is wrong keeps its place.

It publishes nothing.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from werkzeug.exceptions import BadRequest

from triocast.core.message import Draft, Kind
from triocast.errors import TriocastError
from triocast.problems import described
from triocast.web.options import OPTIONS, checked_options

MAX_PUBLISHES = 1000  # items times their groups; as many as a page of anything has, and some 200 KB of receipts
FIELDS = ("group", "groups", "data", "b64data", *OPTIONS)
ITEM = 'an item is a JSON object such as {"group": "chat", "data": "hello"}'
NO_GROUP = "an item has its group as group (a string) or its groups as groups (a list of strings), one of the two"
NO_DATA = "an item has its message as data (any JSON) or as b64data (a string: base64), one of the two"
TOO_MANY = f"one request publishes at most {MAX_PUBLISHES} messages, counting each group of each item: send several"
SHOWN = 3  # unknown fields that are named

Given = Mapping[str, msgspec.Raw]
Problem = Mapping[str, str]
"""What JSON says of an error."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for one group, or why there is none; the group is None if it can't be told."""

    group: str | None
    what: Draft | Problem


def read_items(body: bytes) -> list[Item]:
    """Return what is to be published, in order. Raises `BadRequest` if that can't be told for the body as a whole."""
    items: list[Item] = []
    for raw in _raw_items(body):
        items += _read(raw)
        if len(items) > MAX_PUBLISHES:
            raise BadRequest(TOO_MANY)
    return items


def _raw_items(body: bytes) -> Sequence[msgspec.Raw]:
    try:
        body.decode()  # what is kept raw is not looked at
        first = body.lstrip(b" \t\r\n")[:1]
        whole = msgspec.json.decode(body, type=msgspec.Raw)
        items = msgspec.json.decode(body, type=list[msgspec.Raw]) if first == b"[" else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is JSON nested too deeply") from error
    if first not in (b"[", b"{"):
        raise BadRequest(f"the body is neither a JSON object nor a list of them: {ITEM}")
    if len(items) > MAX_PUBLISHES:
        raise BadRequest(TOO_MANY)
    return items


def _read(raw: msgspec.Raw) -> Iterator[Item]:
    groups: Sequence[str | None] = (None,)
    what: Draft | Problem
    try:
        given = _object(raw)
        groups = _groups(given)
        what = _draft(given)
    except BadRequest as error:
        what = {"code": "bad_request", "message": error.description or ITEM}
    except TriocastError as error:
        what = described(error)
    return (Item(group, what) for group in groups)


def _object(raw: msgspec.Raw) -> Given:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise BadRequest(ITEM) from error


def _groups(given: Given) -> Sequence[str]:
    try:
        match "group" in given, "groups" in given:
            case True, False:
                return (msgspec.json.decode(given["group"], type=str),)
            case False, True:
                groups = msgspec.json.decode(given["groups"], type=list[str])
                if groups:
                    return groups
    except msgspec.DecodeError as error:
        raise BadRequest(NO_GROUP) from error
    raise BadRequest(NO_GROUP)


def _draft(given: Given) -> Draft:
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        shown = ", ".join(ascii(name if len(name) <= 40 else f"{name[:37]}...") for name in unknown[:SHOWN])
        raise BadRequest(f"an item has no {shown}: its fields are {', '.join(FIELDS)}")
    if ("data" in given) == ("b64data" in given):
        raise BadRequest(NO_DATA)
    options = {name: text for name in OPTIONS if name in given and (text := _option(given, name)) is not None}
    return replace(_message(given), **checked_options(options))


def _message(given: Given) -> Draft:
    if "data" in given:
        data = bytes(given["data"])
        if data.startswith(b'"'):
            return Draft(Kind.TEXT, _decoded(data).encode())
        return Draft.parse(Kind.JSON, data)
    try:
        return Draft(Kind.BINARY, b64decode(msgspec.json.decode(given["b64data"], type=str), validate=True))
    except ValueError as error:
        raise BadRequest(f"b64data is not base64 in a string: {error}") from error


def _decoded(string: bytes) -> str:
    try:
        return msgspec.json.decode(string, type=str)
    except msgspec.DecodeError as error:  # half of a surrogate pair
        raise BadRequest(f"data is no text: {error}") from error


def _option(given: Given, name: str) -> str | None:
    """Return an option as text; null is as if it were not there."""
    try:
        return msgspec.json.decode(given[name], type=str | None)
    except msgspec.DecodeError as error:
        raise BadRequest(f"{OPTIONS[name]}, as a string") from error
